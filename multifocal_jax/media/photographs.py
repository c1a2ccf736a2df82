"""Photographs of every kind with bit depth, alpha, orientation, quality and metadata."""

import contextlib
import io
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin, UnidentifiedImageError

from multifocal_jax.data.images import ORIENTATION, PILLOW_ERRORS, TRANSPOSED, one_line, upright
from multifocal_jax.errors import UserError
from multifocal_jax.files import OutputError, make_folder, write_whole
from multifocal_jax.media.deep_colour import is_deep, read_deep, write_heif, write_png, write_ppm, write_tiff
from multifocal_jax.media.kinds import NEEDS_PACKAGE, is_heif, kind_by_suffix
from multifocal_jax.media.metadata import make_exif_true, true_xmp

_WITHOUT_ALPHA = ("JPEG", "BMP", "PPM")
_DEEP_WRITERS = {"PNG": write_png, "TIFF": write_tiff, "PPM": write_ppm, "HEIF": write_heif}
_XMP_IN_PNG, _EXIF_IN_PNG = "XML:com.adobe.xmp", "Raw profile type exif"  # texts
_XMP_IN_TIFF = 700  # tag
_JPEG_SEGMENT = {"exif": 65533, "xmp": 65504}  # bytes that it holds
_MAX_DPI = 65535  # JPEG's
# EXIF tags by which a TIFF describes how its own pixels, further pictures and layers lie, and what Pillow hands over
# beside EXIF.
_LAYOUT_OF_TIFF = (
    *(254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 282, 283, 284, 296, 317),
    *(320, 322, 323, 324, 325, 330, 338, 339, 347, 513, 514, 700, 34675, 37724),
)
_LUMA = np.array([0.299, 0.587, 0.114])


class PhotographError(UserError):
    """A picture cannot be read. The message names the file."""


@dataclass(frozen=True)
class Photograph:
    """A decoded photograph, rotated upright."""

    pixels: np.ndarray  # (H, W, 3) uint8 or uint16 RGB; grey is repeated over the channels
    alpha: np.ndarray | None  # (H, W) of the same dtype, or None
    grey: bool  # whether it was, and will be written as, greyscale
    format: str  # Pillow's name of the file format
    # for Pillow's `save`, so that a file of the same format has the same quality and metadata
    options: dict[str, Any] = field(default_factory=dict)


def read_photograph(data: bytes, name: str) -> Photograph:
    """Decode the contents of a picture file, called `name` in errors.

    Raises:
        PhotographError: it is not a picture, is truncated, has several frames or pages, floating-point or 32-bit
            values, or so many pixels that it may be a decompression bomb (Pillow's limit, about 179 million).
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as picture:
            # Pillow warns about large pictures and odd metadata, which are harmless
            return _decode(picture, data, name)
    except PhotographError:
        raise
    except UnidentifiedImageError:
        if is_heif(data):
            raise PhotographError(f"{name} is HEIF (HEIC), which {NEEDS_PACKAGE}") from None
        raise PhotographError(f"{name} is not a picture of a known format") from None
    except PILLOW_ERRORS as error:
        raise PhotographError(f"picture {name} cannot be read: {one_line(error)}") from None


def _decode(picture: Image.Image, data: bytes, name: str) -> Photograph:
    kind = "JPEG" if picture.format == "MPO" else picture.format or ""  # MPO: a phone's JPEG with previews
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format not in ("MPO", "HEIF"):  # of these the main picture
        raise PhotographError(f"picture {name} holds {frames} pages; take it apart, or save the page that is meant")
    values = read_deep(io.BytesIO(data), upright) if is_deep(picture) else _values(picture, name)
    if values.dtype == np.uint16 and "transparency" in picture.info:  # one colour of a PNG is declared transparent
        opaque = np.any(values != picture.info["transparency"], axis=-1, keepdims=True)
        values = np.concatenate([values, np.where(opaque, 65535, 0).astype(np.uint16)], axis=-1)
    colours = values.shape[-1] // 3 * 2 + 1  # 1 and 2 channels hold one colour, 3 and 4 hold three
    pixels = np.repeat(values[..., :1], 3, axis=-1) if colours == 1 else values[..., :3]
    alpha = values[..., -1] if values.shape[-1] in (2, 4) else None
    return Photograph(pixels, alpha, colours == 1, kind, kept_options(picture, kind, data))


def _values(picture: Image.Image, name: str) -> np.ndarray:
    """(H, W, 1 to 4) uint8 or uint16, upright: grey or RGB, then alpha."""
    shown = upright(picture)
    if shown.mode.startswith("I"):
        values = np.asarray(shown)
        if values.min() < 0 or values.max() > 65535:
            raise PhotographError(f"picture {name} has 32-bit values; convert it to 8 or 16 bits")
        return values.astype(np.uint16)[..., None]
    if shown.mode in ("F", "LAB", "HSV"):
        kind = "floating-point" if shown.mode == "F" else shown.mode
        raise PhotographError(f"picture {name} has {kind} values; convert it to RGB of 8 or 16 bits")
    transparent = shown.has_transparency_data
    grey = shown.mode in ("1", "L", "LA", "La")
    mode = ("LA" if transparent else "L") if grey else ("RGBA" if transparent else "RGB")
    if shown.mode in ("L", "RGB") and transparent:
        shown = shown.convert("RGBA")  # one colour is declared transparent
    values = np.asarray(shown.convert(mode))
    return values.reshape(*values.shape[:2], -1)


def kept_options(picture: Image.Image, kind: str, data: bytes) -> dict[str, Any]:
    """Options for `save` that keep quality and metadata; EXIF only if Pillow can encode all of it.

    Args:
        picture: already decoded, as decoding removes the orientation and some metadata is at the end of a file.
        kind: Pillow's name of its format.
        data: the whole file.
    """
    options = {key: picture.info[key] for key in ("icc_profile", "comment") if picture.info.get(key)}
    if all(0 < float(value) <= _MAX_DPI for value in picture.info.get("dpi", [0])):  # a TIFF may say 0/0
        options["dpi"] = picture.info["dpi"]
    exif = picture.getexif()
    orientation = exif.get(ORIENTATION, 1)
    size = (picture.height, picture.width) if orientation in TRANSPOSED else picture.size
    with Image.open(io.BytesIO(data)) as stored:  # reading a TIFF has turned it, opening a HEIF likewise
        by_pillow = stored.getexif().get(ORIENTATION), stored.info.get("original_orientation")
    turned = any(told not in (None, 1) for told in (orientation, *by_pillow))

    def corrected(xmp: str) -> str:
        return true_xmp(xmp, size, turned)

    if isinstance(xmp := picture.info.get("xmp"), bytes):
        options["xmp"] = corrected(xmp.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    if picture.mode == "CMYK":
        options.pop("icc_profile", None)  # describes inks, and the result is RGB
    if exif:
        for tag in _LAYOUT_OF_TIFF if kind == "TIFF" else ():
            exif.pop(tag, None)
        with contextlib.suppress(*PILLOW_ERRORS):
            make_exif_true(exif, size, turned)
            options["exif"] = exif.tobytes()
    if isinstance(picture, JpegImagePlugin.JpegImageFile):
        options["qtables"] = picture.quantization
        sampling = JpegImagePlugin.get_sampling(picture)
        options["subsampling"] = sampling if sampling >= 0 else 0
        options["progressive"] = bool(picture.info.get("progressive"))
    elif isinstance(picture, PngImagePlugin.PngImageFile):
        text = PngImagePlugin.PngInfo()
        for key, value in picture.text.items():
            if key == _EXIF_IN_PNG:  # is among the options as `exif`
                continue
            if key == _XMP_IN_PNG:
                value = PngImagePlugin.iTXt(corrected(value))
            text.add_itxt(key, value) if isinstance(value, PngImagePlugin.iTXt) else text.add_text(key, value)
        options["pnginfo"] = text
    elif kind in ("WEBP", "AVIF", "HEIF"):
        options["quality"] = 90
        if kind == "WEBP":
            options["lossless"] = _is_lossless_webp(data)
        if kind == "HEIF":
            options |= {key: picture.info[key] for key in ("nclx_profile", "chroma") if key in picture.info}
    elif kind == "TIFF":
        known = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")
        compression = picture.info.get("compression")
        options["compression"] = compression if compression in known else "tiff_adobe_deflate"
    return options


def _is_lossless_webp(data: bytes) -> bool:
    """Whether a WebP file's picture, or the first of its animation, is lossless."""
    position = 12  # after RIFF, the size, WEBP
    while len(header := data[position : position + 8]) == 8:
        name, size = header[:4], int.from_bytes(header[4:], "little")
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8L"
        position += 8 + (16 if name == b"ANMF" else size + size % 2)  # a frame: 16 bytes, then chunks of its own
    return False


def format_of(path: Path) -> str:
    """Pillow's name of the format for a file name; raises OutputError if no picture can be written with its suffix."""
    Image.init()
    kind = Image.registered_extensions().get(path.suffix.lower(), "")
    if kind not in Image.SAVE and kind_by_suffix(path) == "picture":
        raise OutputError(f"{path} is to be HEIF, which {NEEDS_PACKAGE}")
    if kind not in Image.SAVE:
        wrong = f"no picture format is called {path.suffix!r}" if path.suffix else "the name has no suffix"
        raise OutputError(f"{path}: {wrong}; use .png, .jpg, .tif or .webp")
    return kind


def encode_photograph(photograph: Photograph, kind: str, name: str) -> bytes:
    """Encode a photograph as the contents of a file, called `name` in errors.

    16 bits are kept in PNG, TIFF and PPM, HEIF gets the high 10, others the high 8; quality and metadata are kept as
    far as the format supports them. `kind` is Pillow's name of the format.

    Raises:
        OutputError: the format does not support the transparency, the size or the metadata.
    """
    check_transparency(photograph, kind, name)
    pixels = photograph.pixels
    if photograph.grey:
        pixels = np.floor(pixels @ _LUMA + 0.5).astype(pixels.dtype)[..., None]
    if photograph.alpha is not None:
        pixels = np.concatenate([pixels, photograph.alpha[..., None]], axis=-1)
    file = io.BytesIO()
    try:
        options = fitting_options(photograph.options, kind, same=kind == photograph.format)
        if pixels.dtype == np.uint16 and kind in _DEEP_WRITERS:
            _DEEP_WRITERS[kind](file, pixels, options)
        else:
            values = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
            Image.fromarray(values.squeeze(-1) if values.shape[-1] == 1 else values).save(file, kind, **options)
    except PILLOW_ERRORS as error:
        raise OutputError(f"{name} cannot be written as {kind}: {one_line(error)}") from None
    return file.getvalue()


def check_transparency(photograph: Photograph, kind: str, name: str) -> None:
    """Raise OutputError, which calls the file `name`, if Pillow's format `kind` cannot hold its transparency."""
    if photograph.alpha is not None and kind in _WITHOUT_ALPHA:
        raise OutputError(f"{name}: {kind} holds no transparency; choose .png, .tif or .webp")


def fitting_options(options: dict[str, Any], kind: str, same: bool) -> dict[str, Any]:
    """Those of a file's options that are valid for the same or another format."""
    kept = options if same else ("icc_profile", "exif", "dpi", "xmp")
    fitting = {key: options[key] for key in kept if key in options}
    xmp = fitting.get("xmp")
    if xmp and kind == "TIFF":
        entries = Image.Exif()
        entries.load(fitting.get("exif", b""))
        entries[_XMP_IN_TIFF] = xmp
        fitting["exif"] = entries.tobytes()
    elif xmp and kind == "PNG" and not same:
        fitting["pnginfo"] = PngImagePlugin.PngInfo()
        fitting["pnginfo"].add_itxt(_XMP_IN_PNG, xmp.decode(errors="replace"))
    elif kind == "JPEG":
        for key, limit in _JPEG_SEGMENT.items():
            if len(fitting.get(key, b"")) > limit:
                del fitting[key]
    if not same and kind in ("JPEG", "WEBP", "AVIF", "HEIF"):
        fitting["quality"] = 95
    return fitting


def save_picture(pixels: np.ndarray, path: Path) -> None:
    """Write (H, W, 3) uint8 or uint16 without metadata, in the format of the path's suffix; creates the folder.

    Raises:
        OutputError: the suffix is not that of a picture, or the file cannot be written.
    """
    data = encode_photograph(Photograph(pixels, None, False, ""), format_of(path), str(path))
    make_folder(path.parent)
    write_whole(path, lambda file: file.write(data))
