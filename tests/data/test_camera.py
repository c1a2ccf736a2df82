"""The camera and its JPEG against Pillow and SciPy."""

import io
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage
from PIL import Image
from scipy.ndimage import gaussian_filter

from multifocal_jax.data.rain.camera import Camera, draw_camera, photograph
from multifocal_jax.data.rain.draws import Draws
from multifocal_jax.data.rain.jpeg import jpeg

ZERO = jnp.float32(0)
PERFECT = Camera(
    scale=jnp.float32(1), blur=ZERO, noise=ZERO, grain=ZERO, colour=ZERO, quality=jnp.float32(101), seed=jnp.uint32(7)
)
COFFEE = Path(skimage.__file__).parent / "data" / "coffee.png"

_photograph = jax.jit(photograph)
_jpeg = jax.jit(jpeg)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.asarray(Image.open(COFFEE))[100:228, 100:228]


def _take(picture: np.ndarray, **settings: float) -> np.ndarray:
    camera = PERFECT._replace(**{name: jnp.float32(value) for name, value in settings.items()})
    planes = jnp.moveaxis(jnp.asarray(picture, jnp.float32) / 255, -1, 0)
    twice = np.asarray(_photograph(jnp.stack([planes, planes]), camera)) * 255
    np.testing.assert_array_equal(twice[0], twice[1])
    return twice[0]


def test_a_perfect_camera_changes_nothing(picture):
    np.testing.assert_array_equal(np.round(_take(picture)), picture)


@pytest.mark.parametrize("small", [64, 80, 116])
def test_change_of_scale_is_that_of_pillow(picture, small):
    reduced = Image.fromarray(picture).resize((small, small), Image.Resampling.BILINEAR)
    expected = np.asarray(reduced.resize((128, 128), Image.Resampling.BICUBIC), float)
    # Pillow keeps 8 bits in between and cuts its kernels at the border, where ours repeats the border's pixels.
    inner = np.abs(_take(picture, scale=small / 128) - expected)[8:-8, 8:-8]
    assert inner.mean() < 0.5
    assert inner.max() < 8


def test_blur_is_that_of_scipy(picture):
    expected = gaussian_filter(picture.astype(float), (0.9, 0.9, 0), mode="nearest", truncate=8)
    assert np.abs(_take(picture, blur=0.9) - expected).max() < 0.51


def test_noise_is_as_strong_and_as_coarse_as_the_settings_say():
    grey = np.full((128, 128, 3), 128, np.uint8)
    fine = _take(grey, noise=0.04, colour=0.5) - 128
    coarse = _take(grey, noise=0.04, grain=0.25) - 128
    assert fine.std() == pytest.approx(0.04 * 255, rel=0.03)
    assert coarse.std() == pytest.approx(0.04 * 255, rel=0.05)
    assert abs(fine.mean()) < 0.3
    # Half of the variance is common to the channels; a kernel of 1, 2, 1 correlates neighbours by 2/3.
    assert np.corrcoef(fine[..., 0].ravel(), fine[..., 2].ravel())[0, 1] == pytest.approx(0.5, abs=0.03)
    assert np.corrcoef(coarse[:, 1:, 0].ravel(), coarse[:, :-1, 0].ravel())[0, 1] == pytest.approx(2 / 3, abs=0.03)
    np.testing.assert_array_equal(coarse[..., 0], coarse[..., 2])


@pytest.mark.parametrize("size", [(128, 96), (101, 83)])
@pytest.mark.parametrize("quality", [30, 50, 75, 95])
def test_jpeg_is_that_of_pillow(picture, size, quality):
    cut = np.ascontiguousarray(picture[: size[0], : size[1]])
    file = io.BytesIO()
    Image.fromarray(cut).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    expected = np.asarray(Image.open(file), float)
    red, green, blue = (jnp.asarray(cut[..., channel], jnp.float32) for channel in range(3))
    ours = np.stack(_jpeg((red, green, blue), jnp.float32(quality)), -1)
    # The file is 1.8 (quality 95) to 4.6 (quality 30) grey levels away from the picture.
    assert np.abs(ours - expected).mean() < 0.4
    assert np.abs(ours - expected).max() < 20  # a coefficient that was rounded the other way
    assert np.abs(expected - cut).mean() > 4 * np.abs(ours - expected).mean()


def test_draws_stay_within_their_ranges():
    cameras = jax.vmap(lambda key: draw_camera(Draws(key, 8)))(jax.random.split(jax.random.key(0), 2000))
    scaled, blurred, written = cameras.scale < 1, cameras.blur > 0, cameras.quality <= 100
    assert not (scaled & blurred).any()
    assert scaled.mean() == pytest.approx(0.4, abs=0.04)
    assert blurred.mean() == pytest.approx(0.4, abs=0.04)
    assert written.mean() == pytest.approx(5 / 6, abs=0.03)
    assert 30 <= cameras.quality.min() < 35
    assert 93 < cameras.quality[written].max() <= 95
    assert cameras.scale.min() >= 0.45
    assert cameras.noise.max() <= 0.02
