"""Paths, local or in a bucket (`gs://BUCKET/FOLDER`): pathlib's if they are local, etils' epath otherwise."""

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from multifocal_jax.errors import UserError

PathLike = str | os.PathLike[str]

_SECONDS = 30  # between copies of files that grow
_PACKAGES = {"gs": "'multifocal-jax[gcs]'", "s3": "s3fs"}  # needed for addresses of these kinds


class PathError(UserError):
    """A path cannot be used here. The message says what is needed."""


def is_remote(path: PathLike) -> bool:
    """Whether a path is an address such as gs://BUCKET/FOLDER."""
    return "://" in os.fspath(path)


def as_path(path: PathLike) -> Path:
    """A path with pathlib's methods, local or in a bucket.

    Raises:
        PathError: the package that reads addresses of this kind is not installed.
    """
    if not is_remote(path):
        return Path(path)
    import fsspec
    from etils import epath

    scheme = os.fspath(path).split("://")[0]
    try:
        fsspec.get_filesystem_class("gcs" if scheme == "gs" else scheme)  # as epath names it
    except ImportError as error:
        fix = f"; run: pip install {_PACKAGES[scheme]}" if scheme in _PACKAGES else ""
        raise PathError(f"{path} cannot be reached: {error}{fix}") from None
    except ValueError as error:
        raise PathError(f"{path} cannot be reached: {error}; take a local path, gs://… or s3://…") from None
    return cast(Path, epath.Path(path))


def as_absolute(path: PathLike) -> Path:
    """`as_path`, independent of the working directory; epath's own `resolve` mistakes an address for a local path."""
    path = as_path(path)
    return path if is_remote(path) else path.resolve()


def walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """`os.walk`, links followed: every folder with the names of its folders and files, beginning with `folder`."""
    if is_remote(folder):
        from etils import epath

        top = ""
        for found, folders, files in epath.Path(folder).walk():
            top = top or os.fspath(found)  # without the scheme
            yield folder / os.fspath(found)[len(top) :].strip("/"), folders, files
    else:
        for parent, folders, files in os.walk(folder, followlinks=True):
            yield Path(parent), folders, files


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted; hidden ones are left out."""
    _, names, _ = next(walk(folder), (folder, [], []))
    return sorted(folder / name for name in names if not name.startswith("."))


class Mirror:
    """A local folder for files that grow: the target itself, or one that is copied to a bucket regularly.

    Objects in a bucket can only be written whole.

    Attributes:
        folder: the local folder to write into.
    """

    def __init__(self, target: PathLike, *names: str) -> None:
        """Open a folder.

        Args:
            target: folder for the files; must exist.
            names: of files in it that will be appended to.
        """
        self._target = self._temporary = None
        self.folder = Path(target)
        self._copied = time.monotonic()
        if is_remote(target):
            self._target, self._temporary = as_path(target), tempfile.TemporaryDirectory()
            self.folder = Path(self._temporary.name)
            for file in (self._target / name for name in names):
                if file.exists():
                    (self.folder / file.name).write_bytes(file.read_bytes())

    def update(self, at_once: bool = False) -> None:
        """Copy the files to the bucket if the last copy is half a minute old; they must be flushed.

        A copy that fails is reported, and everything is copied the next time; one that is made `at_once` raises.
        """
        if self._target and (at_once or time.monotonic() - self._copied > _SECONDS):
            self._copied = time.monotonic()
            try:
                for file in self.folder.iterdir():
                    (self._target / file.name).write_bytes(file.read_bytes())
            except Exception as error:  # each kind of bucket has its own
                if at_once:
                    raise
                logging.getLogger(__name__).warning("%s will be updated later: %s", self._target, error)

    def close(self) -> None:
        """Copy at once, and remove the local folder of a bucket."""
        self.update(at_once=True)
        if self._temporary:
            self._temporary.cleanup()
