"""Animations keep their frames, timing, repetition and transparency."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageSequence

from multifocal_jax.evaluation import memory
from multifocal_jax.evaluation.inference import InferenceError
from multifocal_jax.files import OutputError
from multifocal_jax.media.animations import Animation, derain_animation, encode_animation, first_frame, is_animation
from multifocal_jax.media.derain_files import derain_bytes
from multifocal_jax.media.photographs import PhotographError

TIMES = [100, 250, 40]
# Large areas of one colour, which a GIF's palette holds exactly.
FRAMES = np.zeros((3, 24, 32, 3), np.uint8)
for number in range(3):
    FRAMES[number, :, : 8 * (number + 1)] = (40, 80 + 40 * number, 120)


def animated(kind: str, alpha: np.ndarray | None = None, **options) -> bytes:
    frames = FRAMES if alpha is None else np.concatenate([FRAMES, alpha[..., None]], axis=-1)
    first, *others = map(Image.fromarray, frames)
    file = io.BytesIO()
    lossless = {"lossless": True} if kind == "WEBP" else {}
    first.save(file, kind, save_all=True, append_images=others, **{"duration": TIMES, **lossless, **options})
    return file.getvalue()


def frames_of(data: bytes, mode: str = "RGB") -> tuple[np.ndarray, list[float], dict]:
    """Frames as shown, their times, and what the file says once."""
    with Image.open(io.BytesIO(data)) as picture:
        pairs = [(np.array(frame.convert(mode)), frame.info["duration"]) for frame in ImageSequence.Iterator(picture)]
        return np.stack([frame for frame, _ in pairs]), [time for _, time in pairs], dict(picture.info)


def brighten(image: np.ndarray) -> np.ndarray:
    assert image.shape == (24, 32, 3)
    return image + np.uint8(20)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
@pytest.mark.parametrize("loop", [0, 1, 3])
def test_frames_timing_and_repetition(kind, loop):
    frames, times, info = frames_of(derain_bytes(brighten, animated(kind, loop=loop), "a"))
    np.testing.assert_array_equal(frames, FRAMES + 20)
    assert times == TIMES
    assert info["loop"] == loop


def test_a_gif_shown_once():
    assert "loop" not in frames_of(derain_bytes(brighten, animated("GIF"), "a"))[2]
    assert frames_of(derain_bytes(brighten, animated("GIF"), "a", "WEBP"))[2]["loop"] == 1


@pytest.mark.parametrize(("kind", "other"), [("GIF", "WEBP"), ("WEBP", "PNG"), ("PNG", "GIF")])
def test_another_format(kind, other):
    frames, times, info = frames_of(derain_bytes(brighten, animated(kind, loop=0), "a", other))
    difference = np.abs(frames.astype(int) - (FRAMES + 20))
    assert difference.mean() < 1  # WebP is lossy then
    assert times == TIMES
    assert info["loop"] == 0


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_transparency(kind):
    alpha = np.full(FRAMES.shape[:3], 255, np.uint8)
    alpha[0, :5], alpha[1, 10:], alpha[2, :, 20:] = 0, 0, 0  # what was covered is laid open again
    data = animated(kind, alpha, loop=0, **({"disposal": 2} if kind == "GIF" else {}))
    frames, times, _ = frames_of(derain_bytes(brighten, data, "a"), "RGBA")
    np.testing.assert_array_equal(frames[..., 3], alpha)
    np.testing.assert_array_equal(frames[..., :3][alpha > 0], (FRAMES + 20)[alpha > 0])
    assert times == TIMES


def test_a_picture_for_programs_without_animations():
    data = animated("PNG", default_image=True, duration=TIMES[1:])
    with Image.open(io.BytesIO(derain_bytes(brighten, data, "a"))) as picture:
        assert picture.info["default_image"]
        assert picture.n_frames == 3
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), FRAMES[0] + 20)
        picture.seek(1)
        assert picture.info["duration"] == TIMES[1]
    frames, times, _ = frames_of(derain_bytes(brighten, data, "a", "GIF"))
    np.testing.assert_array_equal(frames, FRAMES[1:] + 20)
    assert times == TIMES[1:]


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize(("kind", "told"), [("GIF", {"comment": b"hello"}), ("WEBP", {"icc_profile": PROFILE})])
def test_comment_and_profile_are_kept(kind, told):
    frames, _, info = frames_of(derain_bytes(brighten, animated(kind, **told), "a"))
    np.testing.assert_array_equal(frames, FRAMES + 20)
    assert info.items() >= told.items()


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_orientation(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = animated(kind, exif=exif.tobytes())
    data = derain_bytes(lambda image: image, turned, "a")
    np.testing.assert_array_equal(frames_of(data)[0], np.rot90(FRAMES, -1, axes=(1, 2)))
    np.testing.assert_array_equal(first_frame(turned), np.rot90(FRAMES[0], -1))
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.getexif().get(0x0112, 1) == 1


def test_single_pictures_are_none():
    file = io.BytesIO()
    Image.fromarray(FRAMES[0]).save(file, "GIF")
    assert not is_animation(file.getvalue())
    assert not is_animation(b"text")


def test_what_cannot_be_done(monkeypatch):
    data = animated("GIF")
    with pytest.raises(OutputError, match="JPEG holds no animation"):
        encode_animation(derain_animation(brighten, data, "a"), "JPEG", "a.jpg")
    with pytest.raises(PhotographError, match="animation a cannot be read"):
        derain_animation(brighten, animated("PNG")[:-80], "a")

    wide = Animation([np.full((1, 16400, 4), value, np.uint8) for value in (0, 255)], [100, 100], 0, False, "PNG")
    with pytest.raises(OutputError, match=r"a\.webp cannot be written as WEBP: "):  # holds 16383 pixels in a row
        encode_animation(wide, "WEBP", "a.webp")

    def fails(image):
        raise RuntimeError("of the network, not of the file")

    with pytest.raises(RuntimeError, match="of the network"):
        derain_animation(fails, data, "a")

    def too_large(image):
        raise InferenceError("tiles would fit")

    with pytest.raises(InferenceError, match="tiles would fit"):
        derain_animation(too_large, data, "a")
    monkeypatch.setattr(memory, "available_on_host", lambda: 1000)
    with pytest.raises(PhotographError, match=r"3 frames of 32x24 pixels, which need .* are free; make a video"):
        derain_animation(brighten, data, "a")
