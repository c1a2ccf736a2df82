"""Writing files complete or not at all."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from etils import epath

from multifocal_jax.errors import UserError
from multifocal_jax.paths import as_path

PARTIAL = ".partial"  # suffix of a file that is being written; what an interrupted run leaves


class OutputError(UserError):
    """A result cannot be written."""


def make_folder(folder: epath.PathLike) -> Path:
    """Make a folder and those above it.

    Raises:
        OutputError: it cannot be made or written to.
    """
    folder = as_path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{uuid.uuid4().hex}{PARTIAL}"  # others may try the same folder at the same moment
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"cannot write into {folder}: {error.strerror or error}; choose another folder") from None
    return folder


def write_whole(path: epath.PathLike, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a file beside `path`, then rename it; what was there stays until then.

    Raises:
        OutputError: the disk does not take it.
    """
    path = as_path(path)
    partial = path.with_name(path.name + PARTIAL)
    try:
        try:
            with partial.open("wb") as file:
                write(cast(BinaryIO, file))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        if error.errno is None:  # not the disk's but the encoder's; the caller knows what it was given
            raise
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None


def write_text(path: epath.PathLike, text: str) -> None:
    """Write text as `encode` makes it; errors as for `write_whole`."""
    write_whole(path, lambda file: file.write(encode(text)))


def encode(text: str) -> bytes:
    """UTF-8; bytes of file names that are no UTF-8, which Python keeps as surrogates, are written as escapes."""
    return text.encode("utf-8", "backslashreplace")
