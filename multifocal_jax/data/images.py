"""Reads pictures of any common format as uint8 RGB, writes PNG, and finds files in folders."""

import functools
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from PIL import Image, UnidentifiedImageError

from multifocal_jax.data.errors import DataError, ImageError
from multifocal_jax.files import write_whole
from multifocal_jax.paths import as_absolute, as_path, walk

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif", ".avif")
ORIENTATION = 0x0112  # EXIF tag
TRANSPOSED = (5, 6, 7, 8)  # orientations that exchange height and width
_TURNS = {  # by orientation; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow raises, in reading and in writing, for files that are damaged, hostile, odd or of another kind.
PILLOW_ERRORS = (
    OSError,
    EOFError,
    SyntaxError,  # of bad chunks
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def read_image(path: str | Path) -> np.ndarray:
    """Read a picture as uint8 RGB of shape (H, W, 3), rotated according to its orientation.

    Greyscale is repeated over the channels, palettes are looked up, an alpha channel is dropped, CMYK is converted
    without colour management, and of 16-bit values the high byte is kept. Of an animation the first frame is read.

    Raises:
        ImageError: the file is missing, truncated, not a picture, or has floating-point or 32-bit values.
    """
    with _open(path) as file:
        return decode_image(file, str(path))


def decode_image(file: BinaryIO, name: str) -> np.ndarray:
    """`read_image` for an open file; errors call it `name`."""
    try:
        with Image.open(file) as picture:
            return np.array(_to_rgb(upright(picture), name))
    except ImageError:
        raise
    except PILLOW_ERRORS as error:
        raise ImageError(f"picture {name} cannot be read: {one_line(error)}; replace or remove it") from None


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write uint8 (H, W, 3) as PNG, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    write_whole(path, functools.partial(Image.fromarray(image).save, format="PNG"))


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width of the result of `read_image`, from the file's header alone.

    Raises:
        ImageError: the file is missing or not a picture.
    """
    with _open(path) as file:
        return decode_size(file, str(path))


def decode_size(file: BinaryIO, name: str) -> tuple[int, int]:
    """`image_size` for an open file; errors call it `name`."""
    try:
        with Image.open(file) as picture:
            width, height = picture.size
            turned = picture.getexif().get(ORIENTATION) in TRANSPOSED
    except PILLOW_ERRORS as error:
        raise ImageError(f"picture {name} cannot be read: {one_line(error)}; replace or remove it") from None
    return (width, height) if turned else (height, width)


def upright(picture: Image.Image) -> Image.Image:
    """Rotate a loaded picture according to its EXIF or, failing that, its XMP.

    `ImageOps.exif_transpose` would also re-encode the EXIF, which fails for odd entries.
    """
    picture.load()
    turn = _TURNS.get(picture.getexif().get(ORIENTATION, 1))
    return picture if turn is None else picture.transpose(turn)


def find_images(folder: str | Path, recursive: bool = False) -> list[Path]:
    """Pictures in a folder (and its subfolders), by suffix, sorted by path; hidden files are left out.

    Raises:
        DataError: there is no such folder.
    """
    return find_files(folder, SUFFIXES, recursive)


def find_files(folder: str | Path, suffixes: tuple[str, ...] = ("",), recursive: bool = True) -> list[Path]:
    """Files in a folder (and its subfolders) with one of `suffixes`, sorted by path; hidden ones are left out.

    Links to folders are followed, except back into a folder on the way there.

    Raises:
        DataError: there is no such folder.
    """
    folder = as_path(folder)
    if not folder.is_dir():
        raise DataError(
            f"{folder} is a file; name its folder" if folder.exists() else f"folder {folder} does not exist"
        )
    found = []
    for parent, folders, files in walk(folder):
        found += [parent / name for name in files if name.lower().endswith(suffixes) and name[0] != "."]
        if not recursive:
            break
        depth = len(parent.relative_to(folder).parts)
        way = {as_absolute(path) for path in [parent, *parent.parents][: depth + 1]}
        folders[:] = sorted(name for name in folders if name[0] != "." and as_absolute(parent / name) not in way)
    return sorted(found)


def _open(path: str | Path) -> BinaryIO:
    try:
        return cast(BinaryIO, as_path(path).open("rb"))
    except FileNotFoundError:
        raise ImageError(f"picture {path} does not exist") from None
    except OSError as error:
        raise ImageError(f"picture {path} cannot be opened: {error.strerror or error}") from None


def _to_rgb(picture: Image.Image, name: str) -> Image.Image:
    mode = picture.mode
    if mode.startswith("I"):
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(f"picture {name} has 32-bit values; convert it to 8 or 16 bits")
        # The high byte, as Pillow takes it from 16-bit colour.
        picture = Image.fromarray((values.astype(np.uint16) >> 8).astype(np.uint8))
    elif mode == "F":
        raise ImageError(f"picture {name} has floating-point values; convert it to 8 or 16 bits")
    elif mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


def one_line(error: BaseException) -> str:
    """The message of an error of Pillow in one line."""
    if isinstance(error, UnidentifiedImageError):
        return "it is of no known format"
    return " ".join(str(error).split()) or type(error).__name__
