import struct

import numpy as np
import pytest
from PIL import Image

from multifocal_jax.data.errors import DataError, ImageError
from multifocal_jax.data.images import find_images, image_size, read_image
from tests.data.helpers import save

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def test_colour_is_read_as_it_is(tmp_path):
    for suffix in ("png", "bmp", "tif", "ppm"):
        image = read_image(save(tmp_path / f"a.{suffix}", PIXELS))
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, PIXELS)
    image[0] = 0  # the caller's own copy


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (PIXELS[..., 0], np.stack([PIXELS[..., 0]] * 3, -1)),  # grey is repeated
        (np.dstack([PIXELS, np.full((6, 9), 7, np.uint8)]), PIXELS),  # alpha is dropped
        (PIXELS[..., :2], np.stack([PIXELS[..., 0]] * 3, -1)),  # grey with alpha
    ],
)
def test_other_channels(tmp_path, stored, expected):
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", stored)), expected)


@pytest.mark.parametrize("options", [{}, {"transparency": 0}])
def test_palette_is_looked_up(tmp_path, options):
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]], np.uint8)
    indices = np.arange(54).reshape(6, 9).astype(np.uint8) % 4
    picture = Image.fromarray(indices).convert("P")
    picture.putpalette(colours.tobytes())
    picture.putdata(indices.ravel().tolist())
    picture.save(tmp_path / "a.png", **options)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), colours[indices])


def test_16_bits_keep_the_high_byte(tmp_path):
    values = np.array([[0, 255, 256, 0x1234, 65535]], np.uint16)
    for suffix in ("png", "tif"):
        image = read_image(save(tmp_path / f"a.{suffix}", values))
        np.testing.assert_array_equal(image[0, :, 1], [0, 0, 1, 0x12, 255])


def test_cmyk_is_converted(tmp_path):
    Image.new("CMYK", (4, 4), (255, 0, 0, 0)).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0, 0], [0, 255, 255])


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, lambda x: x),
        (3, lambda x: np.rot90(x, 2)),
        (6, lambda x: np.rot90(x, -1)),
        (8, np.rot90),
        (2, np.fliplr),
    ],
)
def test_exif_orientation_is_applied(tmp_path, orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", PIXELS, exif=exif)
    np.testing.assert_array_equal(read_image(path), turned(PIXELS))
    assert image_size(path) == turned(PIXELS).shape[:2]


def test_orientation_beside_odd_exif(tmp_path):
    """A width stored as the fraction 10/1, which Pillow cannot encode again."""
    entries = struct.pack("<HHII", 256, 5, 1, 8 + 2 + 2 * 12 + 4) + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    odd = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + entries + struct.pack("<III", 0, 10, 1)
    for suffix in ("png", "jpg", "webp"):
        path = save(tmp_path / f"a.{suffix}", PIXELS, exif=odd)
        assert read_image(path).shape == (9, 6, 3)
        assert image_size(path) == (9, 6)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(PIXELS, -1))


def test_orientation_in_xmp_is_applied(tmp_path):
    path = save(tmp_path / "a.webp", PIXELS, lossless=True, xmp=b'<rdf:Description tiff:Orientation="6"/>')
    np.testing.assert_array_equal(read_image(path), np.rot90(PIXELS, -1))
    assert image_size(path) == (9, 6)


def test_what_cannot_be_read_is_refused_by_name(tmp_path):
    whole = save(tmp_path / "whole.png", np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = whole.read_bytes()
    avif = save(tmp_path / "whole.avif", PIXELS).read_bytes()
    start = avif.index(b"mdat") + 4
    broken = {
        "zeros.avif": avif[:start] + bytes(len(avif) - start),
        "cut.png": data[: len(data) // 2],
        "garbled.png": data[:60] + b"\0" * 100 + data[160:],
        "text.jpg": b"not a picture",
        "empty.png": b"",
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=name) as caught:
            read_image(tmp_path / name)
        assert "\n" not in str(caught.value)
    save(tmp_path / "float.tif", np.ones((4, 4), np.float32))
    save(tmp_path / "wide.tif", np.full((4, 4), 70000, np.int32))
    for name, kind in (("float.tif", "floating-point"), ("wide.tif", "32-bit"), ("none.png", "does not exist")):
        with pytest.raises(ImageError, match=f"{name}.*{kind}"):
            read_image(tmp_path / name)
    with pytest.raises(ImageError, match="cannot be opened: Is a directory"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match=r"text\.jpg"):
        image_size(tmp_path / "text.jpg")


def test_find_images_sorts_and_leaves_out_what_is_no_picture(tmp_path):
    (tmp_path / "below").mkdir()
    for name in ("b.PNG", "a.jpg", ".hidden.png", "notes.txt", "below/c.png", "below/d.avif"):
        (tmp_path / name).touch()
    assert [path.name for path in find_images(tmp_path)] == ["a.jpg", "b.PNG"]
    assert [path.name for path in find_images(tmp_path, recursive=True)] == ["a.jpg", "b.PNG", "c.png", "d.avif"]
    with pytest.raises(DataError, match="nowhere does not exist"):
        find_images(tmp_path / "nowhere")


def test_links_to_folders(tmp_path):
    """They are followed, but not in circles: to itself, to what holds it, and of two folders to each other."""
    (tmp_path / "one" / "below").mkdir(parents=True)
    (tmp_path / "two").mkdir()
    for name, target in {"self": ".", "one/below/up": "..", "one/two": "../two", "two/one": "../one"}.items():
        (tmp_path / name).symlink_to(target)
    for name in ("a.png", "one/below/b.png", "two/c.png"):
        (tmp_path / name).touch()
    names = ["a.png", "one/below/b.png", "one/two/c.png", "two/c.png", "two/one/below/b.png"]
    assert find_images(tmp_path, recursive=True) == [tmp_path / name for name in names]
