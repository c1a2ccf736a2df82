"""Colour pictures of more than 8 bits per channel, which Pillow does not support, in PNG, TIFF, PPM and HEIF."""

import io
import re
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin

# By Pillow's name of a file's 16-bit pixels: the mode in which it is opened twice, and the raw modes that select the
# high and the low bytes. "LA" has none for its low bytes, but its four bytes per pixel can be read as RGBA.
_BYTES = {
    "RGB;16B": ("RGB", "RGB;16B", "RGB;16L"),
    "RGB;16L": ("RGB", "RGB;16L", "RGB;16B"),
    "RGB;16N": ("RGB", "RGB;16L", "RGB;16B"),
    "RGBA;16B": ("RGBA", "RGBA;16B", "RGBA;16L"),
    "RGBA;16L": ("RGBA", "RGBA;16L", "RGBA;16B"),
    "RGBA;16N": ("RGBA", "RGBA;16L", "RGBA;16B"),
    "LA;16B": ("RGBA", "RGBA", None),
}

Turn = Callable[[Image.Image], Image.Image]


def is_deep(picture: Image.Image) -> bool:
    """Whether an opened file has more than 8 bits of colour, or of grey with alpha, which Pillow would discard."""
    if picture.format == "HEIF":
        return picture.info["bit_depth"] > 8
    if picture.format == "PPM":
        return picture.mode == "RGB" and _highest(picture) > 255
    return _raw_mode(picture) in _BYTES


def read_deep(file: BinaryIO, turn: Turn) -> np.ndarray:
    """Read all bits of a file for which `is_deep` holds.

    Args:
        file: positioned at its start.
        turn: rotates a loaded picture upright.

    Returns:
        (H, W, 1 to 4) uint16 from 0 to 65535: grey or RGB, then alpha if there is any.
    """
    data = file.read()
    with Image.open(io.BytesIO(data)) as picture:
        if picture.format == "HEIF":
            return _read_heif(data)
        if picture.format == "PPM":
            return _read_ppm(data)
        mode, high, low = _BYTES[_raw_mode(picture)]
    if low is None:
        four = _decode(data, mode, high, turn).astype(np.uint16)
        return four[..., 0::2] << 8 | four[..., 1::2]
    return _decode(data, mode, high, turn).astype(np.uint16) << 8 | _decode(data, mode, low, turn)


def _read_heif(data: bytes) -> np.ndarray:
    import pillow_heif  # Pillow has opened the file through it

    values = np.asarray(pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False))
    return values.reshape(*values.shape[:2], -1)


def _read_ppm(data: bytes) -> np.ndarray:
    header = re.match(rb"P([36])" + 3 * rb"(?:\s|#[^\n]*\n)+(\d+)" + rb"\s", data)
    if header is None:
        raise ValueError("its header is odd")
    plain, width, height, highest = (int(part) for part in header.groups())
    if plain == 3:  # in decimal digits
        numbers = re.sub(rb"#[^\n]*", b"", data[header.end() :]).split()[: 3 * width * height]
        values = np.array(numbers).astype(np.uint32)
    else:
        values = np.frombuffer(data, ">u2", 3 * width * height, header.end()).astype(np.uint32)
    return ((values * 65535 + highest // 2) // highest).astype(np.uint16).reshape(height, width, 3)


def _highest(picture: Image.Image) -> int:
    """The value of white in a PPM."""
    arguments = getattr(picture, "tile", [None])[0].args
    return arguments[-1] if isinstance(arguments, tuple) and isinstance(arguments[-1], int) else 255


def _raw_mode(picture: Image.Image) -> str:
    tiles = getattr(picture, "tile", None)
    if not tiles:
        return ""
    arguments = tiles[0].args
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


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
    chunks += [(b"IDAT", zlib.compress(filtered.tobytes())), (b"IEND", b"")]
    file.write(b"\x89PNG\r\n\x1a\n")
    for name, content in chunks:
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
    directory = TiffImagePlugin.ImageFileDirectory_v2(b"II\x2a\0\0\0\0\0")
    directory[TiffImagePlugin.IMAGEWIDTH] = width
    directory[TiffImagePlugin.IMAGELENGTH] = height
    directory[TiffImagePlugin.BITSPERSAMPLE] = (16,) * channels
    directory[TiffImagePlugin.SAMPLESPERPIXEL] = channels
    directory[TiffImagePlugin.COMPRESSION] = 8  # deflate
    directory[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 1 if channels < 3 else 2
    directory[TiffImagePlugin.PLANAR_CONFIGURATION] = 1
    if channels in (2, 4):
        directory[TiffImagePlugin.EXTRASAMPLES] = 2  # alpha that colours are not multiplied with
    directory[TiffImagePlugin.ROWSPERSTRIP] = height
    directory[TiffImagePlugin.STRIPBYTECOUNTS] = len(data)
    directory[TiffImagePlugin.STRIPOFFSETS] = 0  # counted from the directory's end
    if "icc_profile" in options:
        directory[TiffImagePlugin.ICCPROFILE] = options["icc_profile"]
    if "dpi" in options:
        directory[TiffImagePlugin.RESOLUTION_UNIT] = 2
        directory[TiffImagePlugin.X_RESOLUTION], directory[TiffImagePlugin.Y_RESOLUTION] = options["dpi"]
    if "exif" in options:
        exif = Image.Exif()
        exif.load(options["exif"])
        for tag, value in exif.items():
            if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
                entries = exif.get_ifd(tag)
                directory[tag] = {key: entries[key] for key in entries if key != ExifTags.IFD.Interop}
            elif tag not in directory:
                directory[tag] = value
    directory.save(file)
    file.write(data)
