"""What the styles always laid; the style "real" blends, leaves pictures dry, and its camera sees both sides alike."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multifocal_jax.data.rain import add_rain, rain_key, rain_over
from multifocal_jax.data.rain.draws import Draws
from multifocal_jax.data.rain.fields import smooth_field
from multifocal_jax.data.rain.real import blend

COUNT = 24


@functools.cache
def _blended(size: int) -> dict[float, tuple[np.ndarray, np.ndarray]]:
    """O and B, (COUNT, 3, size, size) each, of grey scenes."""
    render = jax.jit(jax.vmap(lambda index, planes: blend(Draws(rain_key(0, index), 128), planes)))
    grey = {value: jnp.full((COUNT, 3, size, size), value, jnp.float32) for value in (0.0, 0.5, 1.0)}
    pairs = {value: render(jnp.arange(COUNT), scene) for value, scene in grey.items()}
    return {value: (np.asarray(rainy), np.asarray(clean)) for value, (rainy, clean) in pairs.items()}


def test_streaks_blend():
    (black, none), (grey, half), (white, full) = _blended(64).values()
    # O is linear in B: O = B (1 − α) + α A.
    np.testing.assert_allclose(grey, (black + white) / 2, atol=1e-6)
    np.testing.assert_array_equal(none, 0)
    np.testing.assert_allclose(half, full / 2, atol=1e-6)
    alpha = 1 - (white - black) / full
    assert alpha.min() > -1e-5
    assert 0.5 < alpha.max() <= 1 + 1e-5
    np.testing.assert_allclose(alpha, np.broadcast_to(alpha[:, :1], alpha.shape), atol=1e-5)
    # Rain brightens the dark and darkens, if anything, the white of a day.
    assert (black >= 0).all()
    day = (full == 1).all((1, 2, 3))
    assert 0.6 < day.mean() < 1
    assert (white[day] <= 1 + 1e-6).all()
    assert (white[day] < 0.97).any()


def test_the_light_has_a_slight_cast():
    black, _ = _blended(64)[0.0]
    most = black.reshape(COUNT, 3, -1)[..., black.mean(1).reshape(COUNT, -1).argmax(-1)]
    most = np.stack([most[row, :, row] for row in range(COUNT)])
    cast = (most[:, 0] - most[:, 2]) / most[:, 1]
    assert np.abs(cast).max() <= 0.41
    assert np.ptp(cast) > 0.05


def test_a_crop_at_the_corner_shows_the_streaks_of_the_whole():
    small, large = _blended(64)[0.0][0], _blended(96)[0.0][0]
    np.testing.assert_allclose(large[..., :64, :64], small, atol=2e-3)


def test_amounts_reach_from_nothing_to_a_downpour():
    (black, _), (white, full) = _blended(64)[0.0], _blended(64)[1.0]
    covered = (1 - (white - black) / full).mean((1, 2, 3))
    assert covered.min() < 0.02
    assert covered.max() > 0.2
    # What the style was when it was frozen: weights that learned from it are scored by it.
    assert covered.mean() == pytest.approx(0.11791, abs=2e-5)
    assert black.mean() == pytest.approx(0.09358, abs=2e-5)


@pytest.mark.parametrize(("style", "rise"), [("light", 0.01656), ("heavy", 0.16870), ("varied", 0.05133)])
def test_frozen_styles_lay_the_rain_that_they_always_did(rng, style, rise):
    clean, rain = jnp.asarray(rng.random((48, 64, 3)), jnp.float32), jax.jit(add_rain, static_argnums=2)
    rises = [np.mean(rain(rain_key(0, index), clean, style)[0] - clean) for index in range(4)]
    assert np.mean(rises) == pytest.approx(rise, abs=2e-5)


def test_one_crop_in_ten_is_dry_unless_it_must_not_be():
    crops = jnp.asarray(np.random.default_rng(0).random((300, 16, 16, 3)), jnp.float32) / 2

    def both(index, crop):
        return [add_rain(rain_key(3, index), crop, "real", always) for always in (False, True)]

    (rainy, clean), (wet, seen) = jax.jit(jax.vmap(both))(jnp.arange(300), crops)
    dry = np.asarray((rainy == clean).all((1, 2, 3)))
    kept = np.asarray((wet == seen).all((1, 2, 3)))  # near scenes and gaps between streaks have none either
    assert kept.sum() < dry.sum()
    assert (dry & ~kept).mean() == pytest.approx(0.1 * (~kept).mean(), abs=0.04)
    wettest = ~(dry | kept)
    np.testing.assert_allclose(clean, seen, atol=1e-6)
    np.testing.assert_allclose(rainy[wettest], wet[wettest], atol=1e-6)
    np.testing.assert_allclose(clean * 255, np.round(clean * 255), atol=1e-4)


def test_pairs_of_8_bits_never_change_and_share_the_camera(rng):
    photograph = rng.integers(0, 256, (64, 64, 3), np.uint8) // 4 + 90
    rainy, clean = rain_over(rain_key(1, 4), photograph, "real")
    assert rainy.dtype == clean.dtype == np.uint8
    assert not np.array_equal(clean, photograph)
    again = rain_over(rain_key(1, 4), photograph, "real")
    np.testing.assert_array_equal(np.stack(again), np.stack([rainy, clean]))
    # Enlarged to few sizes, the picture is the same but for the JPEG's last blocks.
    for part, whole in zip(rain_over(rain_key(1, 4), photograph[:60, :50], "real", 64), again, strict=True):
        assert part.shape == (60, 50, 3)
        np.testing.assert_array_equal(part[:32, :32], whole[:32, :32])


def test_smooth_fields_have_mean_0_and_variance_1():
    fields = jax.jit(jax.vmap(lambda key: smooth_field(Draws(key, 15), 8, 8, (60.0, 600.0))))
    values = np.asarray(fields(jax.random.split(jax.random.key(0), 4000)))
    assert values.mean() == pytest.approx(0, abs=0.05)
    assert values.var() == pytest.approx(1, abs=0.07)
    assert np.abs(np.diff(values, axis=1)).max() < 2 * np.pi / 60 * 5 * (2 / 5) ** 0.5  # its steepest slope
