"""Thousands of damaged pictures: each is refused in a line, or de-rained as far as it goes."""

import io

import numpy as np
import pytest
from mutants import mutants
from PIL import Image

from multifocal_jax.errors import UserError
from multifocal_jax.media.derain_files import derain_bytes
from multifocal_jax.media.photographs import Photograph, encode_photograph

FORMATS = {
    "jpeg": ("JPEG", "RGB", {"quality": 90}),
    "jpeg-progressive": ("JPEG", "L", {"progressive": True}),
    "png": ("PNG", "RGBA", {}),
    "png-palette": ("PNG", "P", {}),
    "png-16": ("PNG", "RGB;16", {}),
    "png-animated": ("PNG", "RGB", {"save_all": True}),
    "gif": ("GIF", "P", {}),
    "gif-animated": ("GIF", "P", {"save_all": True}),
    "webp": ("WEBP", "RGB", {"quality": 80}),
    "webp-lossless": ("WEBP", "RGBA", {"lossless": True}),
    "webp-animated": ("WEBP", "RGB", {"save_all": True}),
    "tiff": ("TIFF", "RGB", {}),
    "tiff-deflate": ("TIFF", "RGB", {"compression": "tiff_adobe_deflate"}),
    "tiff-lzw": ("TIFF", "L", {"compression": "tiff_lzw"}),
    "tiff-16": ("TIFF", "RGB;16", {}),
    "bmp": ("BMP", "RGB", {}),
    "ppm": ("PPM", "RGB", {}),
    "pgm-16": ("PPM", "I;16", {}),
    "avif": ("AVIF", "RGB", {"quality": 60}),
    "jpeg-2000": ("JPEG2000", "RGB", {}),
}


def _encoded(name):
    kind, mode, options = FORMATS[name]
    pixels = np.random.default_rng(0).integers(0, 256, (19, 23, 3), np.uint8)
    pixels = pixels // 4 + np.arange(0, 184, 8, np.uint8)[:, None]  # not all noise
    if mode == "RGB;16":
        return encode_photograph(Photograph(257 * pixels.astype(np.uint16), None, False, kind), kind, name)
    picture = Image.fromarray(pixels)
    if mode == "I;16":
        picture = Image.fromarray(257 * pixels[..., 0].astype(np.uint16))
    elif mode != "RGB":
        picture = picture.convert(mode)
    if "save_all" in options:
        options = options | {"append_images": [picture.rotate(90), picture.rotate(180)], "duration": 50}
    elif kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        exif = Image.Exif()
        exif.update({274: 6, 306: "2026:11:28 08:00:00", 271: "Camera"})
        options = options | {"exif": exif}
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("count", [5, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FORMATS)
def test_mutants_of_pictures(name, count):
    original = _encoded(name)
    assert derain_bytes(lambda pixels: pixels, original, name)
    for number, mutant in enumerate(mutants(original, count, seed=list(FORMATS).index(name))):
        try:
            derain_bytes(lambda pixels: pixels, mutant, name)
        except UserError as error:
            if len(str(error).splitlines()) == 1:
                continue
            raise
        except BaseException as error:
            raise AssertionError(f"mutant {number} of {name}") from error
