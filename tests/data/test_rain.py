"""The synthetic rain against its presets: strength, direction, density, and what a pixel may depend on."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage
from skimage.color import rgb2ycbcr
from skimage.measure import label, regionprops
from skimage.metrics import peak_signal_noise_ratio

from benchmarks.rain import direction
from multifocal_jax.data.errors import DataError
from multifocal_jax.data.images import read_image
from multifocal_jax.data.rain import STYLES, add_rain, rain_key
from multifocal_jax.data.rain.additive import PRESETS, RainPreset, render_rain

pytestmark = pytest.mark.usefixtures("unoptimised")

# One kind of streak, all parallel, so that what is measured has one right answer.
PLAIN = RainPreset(
    density=(300.0, 300.0),
    length=(40.0, 40.0),
    width=(3.0, 3.0),
    brightness=(1.0, 1.0),
    angle=(0.0, 0.0),
    jitter=0.0,
    far=(1.0, 1.0),
    layers=4,
)


@functools.partial(jax.jit, static_argnames="style")
def _jitted(key, clean, style):
    return add_rain(key, clean, style)[0]


_render = jax.jit(render_rain, static_argnames=("height", "width", "preset"))


def _streaks(index: int, size: tuple[int, int], preset: RainPreset) -> np.ndarray:
    return np.asarray(_render(rain_key(0, index), *size, preset)[0])


@pytest.fixture
def clean(rng):
    return jnp.asarray(rng.random((48, 64, 3)), jnp.float32)


@pytest.mark.parametrize("style", STYLES)
def test_rain_is_a_function_of_seed_and_index(clean, style):
    rainy = _jitted(rain_key(3, 7), clean, style=style)
    np.testing.assert_array_equal(rainy, _jitted(rain_key(3, 7), clean, style=style))
    for seed, index in ((3, 8), (4, 7), (7, 3)):
        assert np.abs(rainy - _jitted(rain_key(seed, index), clean, style=style)).max() > 0.05


def test_key_of_a_traced_index():
    traced = jax.jit(functools.partial(rain_key, 5))(jnp.int32(9))
    np.testing.assert_array_equal(jax.random.key_data(traced), jax.random.key_data(rain_key(5, 9)))


@pytest.mark.parametrize("style", PRESETS)
def test_rain_adds_streaks_and_veil_and_clips(clean, style):
    key = rain_key(0, 1)
    rainy = np.asarray(_jitted(key, clean, style=style))
    streaks, veil = _render(key, *clean.shape[:2], PRESETS[style])
    expected = np.minimum(clean + veil * (1 - clean) + np.asarray(streaks)[..., None], 1)
    np.testing.assert_allclose(rainy, expected, atol=1e-3)
    assert rainy.dtype == np.float32
    assert (rainy >= clean).all()
    assert rainy.max() <= 1
    assert np.asarray(streaks).min() >= 0


def test_white_stays_white():
    white = jnp.ones((32, 32, 3))
    np.testing.assert_array_equal(_jitted(rain_key(0, 0), white, style="heavy"), white)


def test_jit_vmap_and_plain_calls_agree(rng):
    batch = jnp.asarray(rng.random((3, 32, 40, 3)), jnp.float32)

    def one(index, picture):
        return add_rain(rain_key(0, index), picture, "varied")[0]

    batched = jax.jit(jax.vmap(one))(jnp.arange(3), batch)
    for index in range(3):
        # Compiled differently, coordinates differ in their last bits: 1e-4 pixels at streaks' edges.
        np.testing.assert_allclose(batched[index], one(index, batch[index]), atol=1e-3)


def test_a_crop_at_the_corner_holds_the_rain_of_the_whole():
    for preset in PRESETS.values():
        np.testing.assert_allclose(_streaks(2, (321, 481), preset)[:64, :64], _streaks(2, (64, 64), preset), atol=1e-3)


def test_rain_per_area_does_not_depend_on_the_size():
    fixed = dataclasses.replace(PLAIN, density=(8000.0, 8000.0), angle=(-40.0, 40.0))
    crops = np.mean([_streaks(index, (64, 64), fixed) for index in range(200)])
    wholes = np.mean([_streaks(1000 + index, (321, 481), fixed) for index in range(6)])
    # A crop holds about 30 streaks of varying brightness: its mean has a relative deviation of some 0.25, and the
    # mean over 200 crops one of 0.02.
    assert crops == pytest.approx(wholes, rel=0.06)


@pytest.mark.parametrize("size", [(512, 512), (1024, 1024)])
def test_streaks_are_as_many_as_the_density_says(size):
    sparse = dataclasses.replace(PLAIN, density=(150.0, 150.0))
    counts = [np.asarray(label(_streaks(index, size, sparse) > 0)).max() for index in range(8)]
    expected = 150e-6 * size[0] * size[1]
    # Random occupation of the cells spreads the mean of 8 counts by √(expected / 8), 2.2 of 39 and 4.4 of 157. Streaks
    # that touch count once (3 of 157), and those that the border cuts count as well (about 6 of 157).
    assert np.mean(counts) == pytest.approx(expected, rel=0.12)


def test_lengths_and_widths_of_single_streaks():
    preset = dataclasses.replace(PLAIN, angle=(30.0, 30.0), density=(40.0, 40.0))
    lengths, widths = [], []
    for index in range(6):
        field = _streaks(index, (768, 768), preset)
        for streak in regionprops(np.asarray(label(field > 0)), field):
            if min(streak.bbox[:2]) == 0 or max(streak.bbox[2:]) == 768:
                continue  # cut by the border
            rows, columns = np.nonzero(streak.image)
            lengths.append(np.ptp(columns * np.sin(np.pi / 6) + rows * np.cos(np.pi / 6)))
            # (1 − d²/r²)² integrates to 16/15 r, and falls to one half at 0.541 r: the width at half the brightness is
            # 1.015 times the integral across, divided by the peak.
            middle = streak.image_intensity[streak.image.shape[0] // 2]
            widths.append(1.015 * middle.sum() * np.cos(np.pi / 6) / middle.max())
    assert len(lengths) > 80
    # Half of the 40 pixels to all of them; the last two per cent are streaks that touch.
    shortest, longest = np.percentile(lengths, [0, 98])
    assert 17 < shortest < 23
    assert 35 < longest < 43
    # 0.7 of 3 pixels to all of them; a row's brightest pixel may lie beside the ridge, which adds some ten per cent.
    thinnest, widest = np.percentile(widths, [2, 98])
    assert 1.9 < thinnest < 2.5
    assert 2.7 < widest < 3.5


@pytest.mark.parametrize("angle", [-35.0, 0.0, 60.0])
def test_streaks_run_in_the_direction_of_the_preset(angle):
    preset = dataclasses.replace(PLAIN, density=(4000.0, 4000.0), angle=(angle, angle), jitter=1.5)
    assert direction(_streaks(1, (256, 256), preset))[0] == pytest.approx(angle, abs=1.0)


def test_directions_of_the_styles_stay_within_their_range():
    angles = [direction(_streaks(index, (128, 128), PRESETS["light"]))[0] for index in range(24)]
    low, high = PRESETS["light"].angle
    assert low - 2 < min(angles) < low / 2  # 2 degrees for the jitter
    assert high / 2 < max(angles) < high + 2


def test_several_directions_lower_the_coherence():
    one = dataclasses.replace(PLAIN, density=(4000.0, 4000.0), length=(100.0, 100.0))
    several = dataclasses.replace(one, directions=4, spread=40.0)
    images = {preset: [_streaks(index, (192, 192), preset) for index in range(12)] for preset in (one, several)}
    assert min(direction(image)[1] for image in images[one]) > 0.95
    # The number of directions is drawn, so some pictures have a single one and others not.
    coherence = [direction(image)[1] for image in images[several]]
    assert min(coherence) < 0.8
    assert max(coherence) > 0.95


@pytest.mark.parametrize(("style", "low", "high"), [("light", 25, 29), ("heavy", 12, 15)])
def test_strength_on_photographs(style, low, high):
    """The bands asked for around Rain100L's 26.9 dB and Rain100H's 13.6 dB, here on three photographs.

    A picture's PSNR has a standard deviation of 2.8 dB (light) and 2.1 dB (heavy), so the mean of 24 is good to 0.6 dB.
    """
    folder = Path(skimage.__file__).parent / "data"
    scores = []
    for number, name in enumerate(("astronaut.png", "chelsea.png", "coffee.png")):
        clean = read_image(folder / name)[:300, :400]  # one size, compiled once
        for index in range(8):
            rainy = _jitted(rain_key(0, 8 * number + index), jnp.asarray(clean, jnp.float32) / 255, style=style)
            written = np.round(np.asarray(rainy) * 255).astype(np.uint8)
            lumas = (np.floor(rgb2ycbcr(image)[..., 0] + 0.5) for image in (clean, written))
            scores.append(peak_signal_noise_ratio(*lumas, data_range=255))
    assert low < np.mean(scores) < high


def test_varied_reaches_from_drizzle_to_downpour():
    grey = jnp.full((96, 96, 3), 0.4)
    rise = [float(jnp.mean(_jitted(rain_key(0, index), grey, style="varied")) - 0.4) for index in range(64)]
    assert min(rise) < 0.01
    assert max(rise) > 0.15


def test_unknown_style_names_the_known_ones(clean):
    with pytest.raises(DataError, match="'fog' does not exist; allowed: light, heavy, varied, real"):
        add_rain(rain_key(0, 0), clean, "fog")
