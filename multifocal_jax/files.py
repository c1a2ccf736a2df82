"""Atomic writing of files."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from etils import epath

from multifocal_jax.errors import UserError
from multifocal_jax.paths import as_path

PARTIAL = ".partial"  # suffix of a file that is being written; a killed run leaves it behind


class OutputError(UserError):
    """A result cannot be written."""


def make_folder(folder: epath.PathLike) -> Path:
    """Create a folder and its parents.

    Raises:
        OutputError: it cannot be created or written to.
    """
    folder = as_path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{uuid.uuid4().hex}{PARTIAL}"  # other processes may probe the folder at the same time
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"cannot write into {folder}: {error.strerror or error}; choose another folder") from None
    return folder


def write_whole(path: epath.PathLike, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file next to `path`, then rename it; an existing file is kept until then.

    Raises:
        OutputError: the file cannot be written.
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
        if error.errno is None:  # from the encoder, not the disk; the caller knows its input
            raise
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None


def write_text(path: epath.PathLike, text: str) -> None:
    """Write text encoded by `encode`; errors as for `write_whole`."""
    write_whole(path, lambda file: file.write(encode(text)))


def encode(text: str) -> bytes:
    """UTF-8; bytes in file names that are not UTF-8, which Python keeps as surrogates, are written as escapes."""
    return text.encode("utf-8", "backslashreplace")
