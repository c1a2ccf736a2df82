"""Colour pictures of more than 8 bits per channel, which Pillow does not support, in PNG, TIFF, PPM and HEIF."""

import io
import re
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin
from PIL import TiffImagePlugin as Tiff

_ORDERS = ("BBL", "LLB", "NLB")  # of two bytes: Pillow's letter, and those that select the high and the low one
# By Pillow's name of a file's 16-bit pixels: the mode in which it is opened twice, and the raw modes that select the
# high and the low bytes. "LA" has none for its low bytes, but its four bytes per pixel can be read as RGBA.
_BYTES: dict[str, tuple[str, str, str | None]] = {
    **{f"{m};16{order}": (m, f"{m};16{high}", f"{m};16{low}") for m in ("RGB", "RGBA") for order, high, low in _ORDERS},
    "LA;16B": ("RGBA", "RGBA", None),
}

Turn = Callable[[Image.Image], Image.Image]


def is_deep(picture: Image.Image) -> bool:
    """Whether an opened file has more than 8 bits of colour, or of grey with alpha, which Pillow would discard."""
    if picture.format == "HEIF":
        return picture.info["bit_depth"] > 8
    if picture.format == "PPM":
        highest = _arguments(picture)[-1]
        return picture.mode == "RGB" and isinstance(highest, int) and highest > 255
    return _arguments(picture)[0] in _BYTES


def read_deep(file: BinaryIO, turn: Turn) -> np.ndarray:
    """Read all bits of a file for which `is_deep` holds; `turn` rotates a loaded picture upright.

    Returns (H, W, 1 to 4) uint16 from 0 to 65535: grey or RGB, then alpha if there is any.
    """
    data = file.read()
    with Image.open(io.BytesIO(data)) as picture:
        if picture.format == "HEIF":
            import pillow_heif  # Pillow has opened the file through it

            values = np.asarray(pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False))
            return values.reshape(*values.shape[:2], -1)
        if picture.format == "PPM":
            return _read_ppm(data)
        mode, high, low = _BYTES[_arguments(picture)[0]]
    if low is None:
        four = _decode(data, mode, high, turn).astype(np.uint16)
        return four[..., 0::2] << 8 | four[..., 1::2]
    return _decode(data, mode, high, turn).astype(np.uint16) << 8 | _decode(data, mode, low, turn)


def _read_ppm(data: bytes) -> np.ndarray:
    header = re.match(rb"P([36])" + 3 * rb"(?:\s|#[^\n]*\n)+(\d+)" + rb"\s", data)
    if header is None:
        raise ValueError("its header is odd")
    plain, width, height, highest = (int(part) for part in header.groups())
    if plain == 3:  # in decimal digits
        values = np.array(re.sub(rb"#[^\n]*", b"", data[header.end() :]).split()[: 3 * width * height])
    else:
        values = np.frombuffer(data, ">u2", 3 * width * height, header.end())
    scaled = (values.astype(np.uint32) * 65535 + highest // 2) // highest
    return scaled.astype(np.uint16).reshape(height, width, 3)


def _arguments(picture: Image.Image) -> tuple[Any, ...]:
    """What Pillow gives its decoder: the raw mode of the pixels and more; of a PPM, the value of white comes last."""
    tiles = getattr(picture, "tile", None)
    arguments = tiles[0].args if tiles else ""
    return arguments if isinstance(arguments, tuple) else (arguments,)


def _decode(data: bytes, mode: str, raw_mode: str, turn: Turn) -> np.ndarray:
    """Let Pillow decode a file as if its pixels had another raw mode of the same width."""
    with Image.open(io.BytesIO(data)) as picture:
        picture.tile = [  # pyright: ignore[reportAttributeAccessIssue]
            tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)
            for tile in picture.tile  # pyright: ignore[reportAttributeAccessIssue]
        ]
        picture._mode = mode
        picture.load()
        return np.asarray(turn(picture))


def write_png(file: BinaryIO, pixels: np.ndarray, options: dict[str, Any]) -> None:
    """Write a PNG with 16 bits per channel.

    Args:
        file: to write to.
        pixels: (H, W, C) uint16; C is 1 (grey), 2 (with alpha), 3 (RGB) or 4 (RGBA).
        options: `icc_profile`, `exif`, `dpi` and `pnginfo` as Pillow's `save` takes them.
    """
    height, width, channels = pixels.shape
    rows = np.frombuffer(pixels.astype(">u2").tobytes(), np.uint8).reshape(height, -1)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = 2  # each row is stored as its difference from the row above
    filtered[0, 1:] = rows[0]
    filtered[1:, 1:] = rows[1:] - rows[:-1]
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    chunks = [(b"IHDR", np.array([width, height], ">u4").tobytes() + bytes([16, colour_type, 0, 0, 0]))]
    if "icc_profile" in options:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(options["icc_profile"])))
    if "dpi" in options:
        per_metre = [round(float(value) / 0.0254) for value in options["dpi"]]
        chunks.append((b"pHYs", np.array(per_metre, ">u4").tobytes() + b"\1"))
    if "pnginfo" in options:
        chunks += [(chunk[0], chunk[1]) for chunk in options["pnginfo"].chunks]
    if "exif" in options:
        chunks.append((b"eXIf", options["exif"].removeprefix(b"Exif\0\0")))
    file.write(b"\x89PNG\r\n\x1a\n")
    for name, content in [*chunks, (b"IDAT", zlib.compress(filtered.tobytes())), (b"IEND", b"")]:
        PngImagePlugin.putchunk(file, name, content)


def write_ppm(file: BinaryIO, pixels: np.ndarray, options: dict[str, Any]) -> None:
    """Write a PPM, or a PGM if there is one channel, with 16 bits per channel; it has no options."""
    height, width, channels = pixels.shape
    file.write(b"P%d\n%d %d\n65535\n" % (5 if channels == 1 else 6, width, height))
    file.write(pixels.astype(">u2").tobytes())


def write_heif(file: BinaryIO, pixels: np.ndarray, options: dict[str, Any]) -> None:
    """Write the high 10 bits as HEIF; arguments as for `write_png`, with `quality` and other options of pillow-heif."""
    import pillow_heif

    height, width, channels = pixels.shape
    mode = ("L;16", "LA;16", "RGB;16", "RGBA;16")[channels - 1]
    pillow_heif.encode(mode, (width, height), np.ascontiguousarray(pixels).tobytes(), file, **options)


def write_tiff(file: BinaryIO, pixels: np.ndarray, options: dict[str, Any]) -> None:
    """Write a TIFF with 16 bits per channel; arguments as for `write_png`, with XMP as an entry of the EXIF."""
    height, width, channels = pixels.shape
    data = zlib.compress(pixels.astype("<u2").tobytes())
    entries = {
        Tiff.IMAGEWIDTH: width,
        Tiff.IMAGELENGTH: height,
        Tiff.BITSPERSAMPLE: (16,) * channels,
        Tiff.SAMPLESPERPIXEL: channels,
        Tiff.COMPRESSION: 8,  # deflate
        Tiff.PHOTOMETRIC_INTERPRETATION: 1 if channels < 3 else 2,
        Tiff.PLANAR_CONFIGURATION: 1,
        Tiff.ROWSPERSTRIP: height,
        Tiff.STRIPBYTECOUNTS: len(data),
        Tiff.STRIPOFFSETS: 0,  # counted from the directory's end
    }
    if channels in (2, 4):
        entries[Tiff.EXTRASAMPLES] = 2  # alpha that colours are not multiplied with
    if "icc_profile" in options:
        entries[Tiff.ICCPROFILE] = options["icc_profile"]
    if "dpi" in options:
        entries |= zip((Tiff.RESOLUTION_UNIT, Tiff.X_RESOLUTION, Tiff.Y_RESOLUTION), (2, *options["dpi"]), strict=True)
    exif = Image.Exif()
    exif.load(options.get("exif", b""))
    for tag, value in exif.items():
        if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            inner = exif.get_ifd(tag)
            entries[tag] = {key: inner[key] for key in inner if key != ExifTags.IFD.Interop}
        else:
            entries.setdefault(tag, value)
    directory = Tiff.ImageFileDirectory_v2(b"II\x2a\0\0\0\0\0")
    for tag, value in entries.items():
        directory[tag] = value
    directory.save(file)
    file.write(data)
