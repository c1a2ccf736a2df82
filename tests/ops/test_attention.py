"""Equations 4 to 6, written out with NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from multifocal_jax.ops import (
    add_spatial_attention,
    attention,
    band_attention,
    channel_attention_map,
    recalibrate,
    spatial_attention,
    spatial_attention_maps,
)

B, H, W, S, C = 2, 4, 6, 10, 16


@pytest.fixture
def tensors(rng):
    return [rng.standard_normal(shape).astype(np.float32) for shape in ((B, H, W, C), (B, S, C), (B, S, C))]


def test_spatial_attention_is_equation_5(tensors):
    query, key, value = tensors
    expected = np.zeros((B, H, W, C))
    for b in range(B):
        for band in range(4):
            part = slice(band * C // 4, (band + 1) * C // 4)
            maps = softmax(query[b, ..., part].reshape(H * W, -1) @ key[b, :, part].T, axis=-1)
            expected[b, ..., part] = (maps @ value[b, :, part]).reshape(H, W, -1)
    np.testing.assert_allclose(spatial_attention(*map(jnp.asarray, tensors)), expected, atol=1e-5)


def test_spatial_maps_are_equation_4(tensors):
    query, key, _ = tensors
    maps = np.asarray(spatial_attention_maps(jnp.asarray(query), jnp.asarray(key)))
    assert maps.shape == (B, 4, H, W, S)
    np.testing.assert_allclose(maps.sum(-1), 1, atol=1e-5)
    expected = softmax(query[1, 2, 3, 8:12] @ key[1, :, 8:12].T)
    np.testing.assert_allclose(maps[1, 2, 2, 3], expected, atol=1e-6)


@pytest.mark.parametrize("heads", [1, 2, 4, 8, 16])
def test_channel_map_is_equation_6_per_head(tensors, heads):
    _, query, key = tensors
    maps = np.asarray(channel_attention_map(jnp.asarray(query), jnp.asarray(key), heads))
    width = C // heads
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        expected = softmax(key[0, :, part].T @ query[0, :, part], axis=0)
        np.testing.assert_allclose(maps[0, head], expected, atol=1e-5)


def test_channel_softmax_over_the_query_axis(tensors):
    _, query, key = tensors
    maps = channel_attention_map(jnp.asarray(query), jnp.asarray(key), 4, over="query")
    np.testing.assert_allclose(np.asarray(maps).sum(-1), 1, atol=1e-5)


def test_logits_and_softmax_stay_in_float32_under_bfloat16(tensors):
    query, key, _ = (jnp.asarray(x, jnp.bfloat16) for x in tensors)
    assert spatial_attention_maps(query, key).dtype == jnp.float32
    assert channel_attention_map(key, key, 4).dtype == jnp.float32


def composed(x, kernel, bias, key, value):
    """The spatial CSSAB from its Q projection on, of parts that have tests of their own."""
    return x + spatial_attention(recalibrate(jnp.einsum("bhwc,cf->bhwf", x, kernel) + bias), key, value)


def random_inputs(rng, height, width):
    shapes = (2, height, width, C), (C, C), (C,), (2, S, C), (2, S, C)
    return [jnp.asarray(rng.standard_normal(shape)) for shape in shapes]


@pytest.mark.parametrize("height", [2, 14, 36])
@pytest.mark.parametrize("strip", [1, 64, 4096])
def test_all_at_once_is_what_the_parts_give(rng, monkeypatch, height, strip):
    # strips of two rows, of eight rows, which do not divide 14 or 36, and of all rows
    monkeypatch.setattr(attention, "CPU_STRIP", strip)
    with jax.enable_x64(True):
        inputs = random_inputs(rng, height, 8)
        gradient = jnp.asarray(rng.standard_normal((2, height, 8, C)))
        expected, pull_expected = jax.vjp(composed, *inputs)
        out, pull = jax.vjp(add_spatial_attention, *inputs)
        np.testing.assert_allclose(out, expected, atol=1e-12)
        for ours, reference in zip(pull(gradient), pull_expected(gradient), strict=True):
            np.testing.assert_allclose(ours, reference, atol=1e-11)


@pytest.mark.parametrize("strip", [16, 1 << 20])
def test_what_accelerators_run_is_what_the_parts_give(rng, strip):
    with jax.enable_x64(True):
        inputs = random_inputs(rng, 12, 8)
        gradient = jnp.asarray(rng.standard_normal((2, 12, 8, C)))
        expected, pull_expected = jax.vjp(composed, *inputs)
        x, kernel, bias, key, value = inputs
        given = x, attention.by_phase(kernel), attention.by_phase(bias), key, value
        np.testing.assert_allclose(attention._forward_strips(band_attention, strip, *given), expected, atol=1e-12)
        found = attention._backward_strips(band_attention, strip, *given, gradient)
        ex, e_kernel, e_bias, *others = pull_expected(gradient)
        expected = ex, attention.by_phase(e_kernel), attention.by_phase(e_bias), *others
        for ours, reference in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, reference, atol=1e-11)


def test_gradients_equal_finite_differences(rng):
    with jax.enable_x64(True):
        inputs = random_inputs(rng, H, W)
        directions = [jnp.asarray(rng.standard_normal(x.shape)) for x in inputs]
        weights = jnp.asarray(rng.standard_normal((B, H, W, C)))

        def along(step):
            moved = (x + step * d for x, d in zip(inputs, directions, strict=True))
            return jnp.sum(weights * add_spatial_attention(*moved))

        _, pull = jax.vjp(add_spatial_attention, *inputs)
        slope = sum(jnp.sum(g * d) for g, d in zip(pull(weights), directions, strict=True))
        assert float(slope) == pytest.approx(float(along(1e-6) - along(-1e-6)) / 2e-6, rel=1e-6)
