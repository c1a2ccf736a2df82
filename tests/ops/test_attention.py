"""Equations 4 to 6, written out with NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from multifocal_jax.ops import attention, channel_attention_map, spatial_attention, spatial_attention_maps
from multifocal_jax.ops.attention import plain_spatial_attention

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


def test_gradients_equal_finite_differences(tensors, rng):
    with jax.enable_x64(True):
        inputs = [jnp.asarray(x, jnp.float64) for x in tensors]
        directions = [jnp.asarray(rng.standard_normal(x.shape)) for x in tensors]
        weights = jnp.asarray(rng.standard_normal((B, H, W, C)))

        def along(step):
            return jnp.sum(
                weights * spatial_attention(*(x + step * d for x, d in zip(inputs, directions, strict=True)))
            )

        _, pull = jax.vjp(spatial_attention, *inputs)
        slope = sum(jnp.sum(g * d) for g, d in zip(pull(weights), directions, strict=True))
        assert float(slope) == pytest.approx(float(along(1e-5) - along(-1e-5)) / 2e-5, rel=1e-7)


@pytest.mark.parametrize("height", [1, 7, 36])
def test_blocks_of_rows_give_what_the_plain_equations_give(rng, monkeypatch, height):
    # blocks of about 24 pixels: one row, several rows, a height that no block divides evenly
    monkeypatch.setattr(attention, "BLOCK", 24)
    with jax.enable_x64(True):
        query, gradient = (jnp.asarray(rng.standard_normal((2, height, 8, C))) for _ in range(2))
        key, value = (jnp.asarray(rng.standard_normal((2, S, C))) for _ in range(2))
        plain, pull = jax.vjp(plain_spatial_attention, query, key, value)
        blockwise, pull_blockwise = jax.vjp(spatial_attention, query, key, value)
        np.testing.assert_allclose(blockwise, plain, atol=1e-12)
        for ours, reference in zip(pull_blockwise(gradient), pull(gradient), strict=True):
            np.testing.assert_allclose(ours, reference, atol=1e-12)
