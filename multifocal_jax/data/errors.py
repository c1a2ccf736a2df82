"""Errors of this package. Every message is one line that says what is wrong, where, and how to fix it."""

from multifocal_jax.errors import UserError


class DataError(UserError):
    """A data source, its layout or its settings cannot be used."""


class ImageError(DataError):
    """A picture cannot be read. The message names the file."""


class NoSplitError(DataError):
    """A published set has no folder for a split. The message says where and what was expected."""


class NoPairsError(DataError):
    """A folder contains no pairs in any known layout. The message says where and what was expected."""
