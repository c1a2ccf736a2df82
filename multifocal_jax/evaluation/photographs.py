"""Photographs of every kind with all that belongs to them: bit depth, alpha, orientation, quality and metadata."""

import io
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, JpegImagePlugin, PngImagePlugin, UnidentifiedImageError

from multifocal_jax.errors import UserError
from multifocal_jax.evaluation.deep_colour import is_deep, read_deep, write_png, write_tiff
from multifocal_jax.evaluation.files import OutputError, make_folder, write_whole

_WITHOUT_ALPHA = ("JPEG", "BMP", "PPM")
_DEEP_WRITERS = {"PNG": write_png, "TIFF": write_tiff}
_ORIENTATION = 0x0112  # EXIF tag
# EXIF tags by which a TIFF describes how its own pixels lie and what Pillow hands over beside EXIF.
_LAYOUT_OF_TIFF = (
    *(254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 282, 283, 284, 296, 317),
    *(320, 322, 323, 324, 325, 338, 339, 347, 700, 34675),
)
_LUMA = np.array([0.299, 0.587, 0.114])
# What Pillow raises for files that are damaged, hostile or of another kind.
PILLOW_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, Image.DecompressionBombError)


class PhotographError(UserError):
    """A picture cannot be read. The message names the file."""


@dataclass(frozen=True)
class Photograph:
    """A decoded photograph, turned upright.

    Attributes:
        pixels: (H, W, 3) uint8 or uint16 RGB; grey ones are repeated over the channels.
        alpha: (H, W) of the same dtype, or None.
        grey: whether it was, and is to be written, greyscale.
        format: Pillow's name of the file format.
        options: for Pillow's `save`, so that a file of the same format has the same quality and metadata.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    grey: bool
    format: str
    options: dict[str, Any] = field(default_factory=dict)


def read_photograph(data: bytes, name: str) -> Photograph:
    """Decode the contents of a picture file.

    Args:
        data: the whole file.
        name: of the file, for errors.

    Raises:
        PhotographError: it is no picture, is truncated, has several frames or pages, floating-point or 32-bit values,
            or so many pixels that it looks like an attack (Pillow's limit, about 179 million).
    """
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as picture:
            warnings.simplefilter("ignore")  # Pillow warns of large pictures and odd metadata, which are no trouble
            return _decode(picture, data, name)
    except PhotographError:
        raise
    except UnidentifiedImageError:
        raise PhotographError(f"{name} is no picture of a known format") from None
    except PILLOW_ERRORS as error:
        message = " ".join(str(error).split()) or type(error).__name__
        raise PhotographError(f"picture {name} cannot be read: {message}") from None


def _decode(picture: Image.Image, data: bytes, name: str) -> Photograph:
    kind = "JPEG" if picture.format == "MPO" else picture.format or ""  # MPO: a phone's JPEG with previews
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":
        raise PhotographError(f"picture {name} holds {frames} pages; take it apart, or save the page that is meant")
    values = read_deep(io.BytesIO(data), ImageOps.exif_transpose) if is_deep(picture) else _values(picture, name)
    colours = values.shape[-1] // 3 * 2 + 1  # 1 and 2 channels hold one colour, 3 and 4 hold three
    pixels = np.repeat(values[..., :1], 3, axis=-1) if colours == 1 else values[..., :3]
    alpha = values[..., -1] if values.shape[-1] in (2, 4) else None
    return Photograph(pixels, alpha, colours == 1, kind, kept_options(picture, kind, data))


def _values(picture: Image.Image, name: str) -> np.ndarray:
    """(H, W, 1 to 4) uint8 or uint16, upright: grey or RGB, then alpha."""
    picture.load()
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I"):
        values = np.asarray(upright)
        if values.min() < 0 or values.max() > 65535:
            raise PhotographError(f"picture {name} has 32-bit values; convert it to 8 or 16 bits")
        return values.astype(np.uint16)[..., None]
    if upright.mode in ("F", "LAB", "HSV"):
        kind = "floating-point" if upright.mode == "F" else upright.mode
        raise PhotographError(f"picture {name} has {kind} values; convert it to RGB of 8 or 16 bits")
    transparent = upright.has_transparency_data
    grey = upright.mode in ("1", "L", "LA", "La")
    mode = ("LA" if transparent else "L") if grey else ("RGBA" if transparent else "RGB")
    if upright.mode in ("L", "RGB") and transparent:
        upright = upright.convert("RGBA")  # one colour is declared transparent
    values = np.asarray(upright.convert(mode))
    return values.reshape(*values.shape[:2], -1)


def kept_options(picture: Image.Image, kind: str, data: bytes) -> dict[str, Any]:
    """Options for `save` that keep quality and metadata.

    Args:
        picture: read already, as decoding takes away the orientation and some of what is kept stands at a file's end.
        kind: Pillow's name of its format.
        data: the file, or the part that holds its first frame.
    """
    options: dict[str, Any] = {}
    for key in ("icc_profile", "dpi", "comment", "xmp"):
        if picture.info.get(key):
            options[key] = picture.info[key]
    if picture.mode == "CMYK":
        options.pop("icc_profile", None)  # describes inks, and the result is RGB
    exif = picture.getexif()
    if exif:
        for tag in (_ORIENTATION, *(_LAYOUT_OF_TIFF if kind == "TIFF" else ())):
            exif.pop(tag, None)
        options["exif"] = exif.tobytes()
    if isinstance(picture, JpegImagePlugin.JpegImageFile):
        options["qtables"] = picture.quantization
        sampling = JpegImagePlugin.get_sampling(picture)
        options["subsampling"] = sampling if sampling >= 0 else 0
        options["progressive"] = bool(picture.info.get("progressive"))
    elif isinstance(picture, PngImagePlugin.PngImageFile):
        text = PngImagePlugin.PngInfo()
        for key, value in picture.text.items():
            text.add_itxt(key, value) if isinstance(value, PngImagePlugin.iTXt) else text.add_text(key, value)
        options["pnginfo"] = text
    elif kind == "WEBP":
        options["lossless"] = b"VP8L" in data[:64]
        options["quality"] = 90
    elif kind == "TIFF":
        known = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")
        compression = picture.info.get("compression")
        options["compression"] = compression if compression in known else "tiff_adobe_deflate"
    return options


def format_of(path: Path) -> str:
    """Pillow's name of the format that a file name asks for.

    Raises:
        OutputError: no picture can be written under this name.
    """
    Image.init()
    kind = Image.registered_extensions().get(path.suffix.lower(), "")
    if kind not in Image.SAVE:
        raise OutputError(f"{path}: no picture format is called {path.suffix or 'so'!r}; use .png, .jpg, .tif or .webp")
    return kind


def encode_photograph(photograph: Photograph, kind: str, name: str) -> bytes:
    """The contents of a picture file.

    Args:
        photograph: to be written; 16 bits are kept in PNG and TIFF, other formats get the high 8.
        kind: Pillow's name of the format; quality and metadata are kept as far as this format takes them.
        name: of the file, for errors.

    Raises:
        OutputError: the format cannot hold the transparency or the size.
    """
    if photograph.alpha is not None and kind in _WITHOUT_ALPHA:
        raise OutputError(f"{name}: {kind} holds no transparency; choose .png, .tif or .webp")
    pixels = photograph.pixels
    if photograph.grey:
        pixels = np.floor(pixels @ _LUMA + 0.5).astype(pixels.dtype)[..., None]
    if photograph.alpha is not None:
        pixels = np.concatenate([pixels, photograph.alpha[..., None]], axis=-1)
    options = fitting_options(photograph.options, kind, same=kind == photograph.format)
    file = io.BytesIO()
    if pixels.dtype == np.uint16 and kind in _DEEP_WRITERS:
        _DEEP_WRITERS[kind](file, pixels, options)
        return file.getvalue()
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    try:
        Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(file, kind, **options)
    except (OSError, ValueError, KeyError) as error:
        raise OutputError(f"{name} cannot be written as {kind}: {error}") from None
    return file.getvalue()


def fitting_options(options: dict[str, Any], kind: str, same: bool) -> dict[str, Any]:
    """Of a file's options, those that hold for a file of another format."""
    if same:
        return options
    fitting = {key: options[key] for key in ("icc_profile", "exif", "dpi", "xmp") if key in options}
    if kind in ("JPEG", "WEBP", "AVIF"):
        fitting["quality"] = 95
    return fitting


def save_picture(pixels: np.ndarray, path: Path) -> None:
    """Write a picture without any metadata, in the format of its suffix; its folder is made.

    Args:
        pixels: (H, W, 3) uint8.
        path: file to write.

    Raises:
        OutputError: the suffix is no picture's, or the disk does not take it.
    """
    data = encode_photograph(Photograph(pixels, None, False, ""), format_of(path), str(path))
    make_folder(path.parent)
    write_whole(path, lambda file: file.write(data))
