"""Errors of this room. Every message is one line that says what is wrong, where, and the way out."""


class DataError(ValueError):
    """A data source, its layout or its settings cannot be used."""


class ImageError(DataError):
    """A picture cannot be read. The message names the file."""
