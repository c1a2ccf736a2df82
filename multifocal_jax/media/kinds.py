"""The kind of a file, by its suffix or, where that says nothing, by its contents."""

import contextlib
import warnings
from pathlib import Path
from typing import Literal

from PIL import Image

from multifocal_jax.data.images import PILLOW_ERRORS
from multifocal_jax.data.images import SUFFIXES as _COMMON
from multifocal_jax.files import PARTIAL
from multifocal_jax.media import containers

with contextlib.suppress(ModuleNotFoundError):  # the extra `heif`
    import pillow_heif

    pillow_heif.register_heif_opener()

Kind = Literal["picture", "video"]

PICTURES = (*_COMMON, ".heic", ".heif", ".hif")
# Raw files of cameras, which Pillow mistakes for TIFFs of their embedded preview.
_RAW = (".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".nef", ".nrw", ".orf", ".pef")
_RAW += (".raf", ".raw", ".rw2", ".srw", ".x3f")
# Pillow's formats that are recognised by their first bytes and can be written.
_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "PPM", "GIF", "JPEG2000", "MPO", "HEIF")
Image.init()
_OPEN = [name for name in _FORMATS if name in Image.OPEN]
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")  # brands
NEEDS_PACKAGE = "needs pillow-heif; install it with: pip install pillow-heif (the extra `heif`)"
_BEGINNING = 1024  # bytes that identify a video


def kind_by_suffix(path: Path) -> Kind | None:
    """The kind that a name indicates; None if unknown."""
    suffix = path.suffix.lower()
    return "picture" if suffix in PICTURES else "video" if suffix in containers.SUFFIXES else None


def kind_of(path: Path) -> Kind | None:
    """The kind of a file; None if it is neither picture nor video, or a camera's raw file or left by a killed run."""
    if path.suffix.lower() in (PARTIAL, *_RAW):
        return None
    with path.open("rb") as file:
        start = file.read(_BEGINNING)
        if _is_film(start):
            return "video" if _has_pictures(path) else None
        if is_heif(start):
            return "picture"
        file.seek(0)
        with warnings.catch_warnings(action="ignore"), contextlib.suppress(*PILLOW_ERRORS):
            with contextlib.suppress(Image.DecompressionBombError):
                Image.open(file, formats=_OPEN).close()
            return "picture"
    return None


def why_unknown(path: Path) -> str:
    """For a message: why a file of unknown kind is not processed."""
    suffix = path.suffix.lower()
    if suffix == PARTIAL:
        return "was left by a run that did not end; remove it"
    if suffix in _RAW:
        return "is the raw file of a camera; develop it first, for instance to a TIFF of 16 bits"
    return "is not a picture or video of a known format"


def is_heif(data: bytes) -> bool:
    """Whether a file that begins with these bytes is a HEIF picture."""
    return data[4:8] == b"ftyp" and data[8:12] in _HEIF


def _has_pictures(path: Path) -> bool:
    """Whether a media file contains more than sound; True if unknown."""
    try:
        from multifocal_jax.media.video_reading import VideoError, open_video, pictures
    except ModuleNotFoundError:
        return True
    try:
        with open_video(path) as film:
            return pictures(film.streams) is not None
    except VideoError:
        return True


def _is_film(start: bytes) -> bool:
    """Recognise a video by the first bytes of the containers that can be read."""
    box = start[4:8]
    return (
        (box == b"ftyp" and start[8:12] not in (*_HEIF, b"avif", b"avis", b"jp2 ", b"jpx ", b"M4A "))
        or (box in (b"moov", b"mdat", b"wide") and start[:1] == b"\0")  # old QuickTime
        or start.startswith((b"\x1a\x45\xdf\xa3", b"FLV\x01", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", b"\0\0\x01\xba"))
        or (start.startswith(b"RIFF") and start[8:12] == b"AVI ")
        or any(len(start) > 3 * size and {start[first + n * size] for n in range(3)} == {0x47} for first, size in _TS)
    )


_TS = ((0, 188), (4, 192))  # MPEG transport streams: where the packets' first bytes stand, and the packets' size
