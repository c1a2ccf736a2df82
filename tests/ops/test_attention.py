"""Equations 3 to 6, written out with NumPy and SciPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from multifocal_jax.ops import (
    channel_attention,
    channel_attention_maps,
    similarity,
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
    query, key, value = map(jnp.asarray, tensors)
    np.testing.assert_allclose(spatial_attention(spatial_attention_maps(query, key), value), expected, atol=1e-5)


def test_similarity_is_the_softmax_of_equation_3(tensors):
    query, key, _ = tensors
    expected = softmax(query.reshape(B, H * W, C) @ key.swapaxes(1, 2), axis=-1).reshape(B, H, W, S)
    np.testing.assert_allclose(similarity(jnp.asarray(query), jnp.asarray(key)), expected, atol=1e-5)


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
    maps = np.asarray(channel_attention_maps(jnp.asarray(query), jnp.asarray(key), heads))
    width = C // heads
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        expected = softmax(key[0, :, part].T @ query[0, :, part], axis=0)
        np.testing.assert_allclose(maps[0, head], expected, atol=1e-5)


def test_channel_attention_is_v_times_the_map_of_each_head(tensors):
    value, query, key = map(jnp.asarray, tensors)
    maps = channel_attention_maps(query, key, 4)
    expected = [tensors[0][..., 4 * head : 4 * head + 4] @ np.asarray(maps)[:, None, head] for head in range(4)]
    np.testing.assert_allclose(channel_attention(value, maps), np.concatenate(expected, -1), atol=1e-5)


def test_channel_softmax_over_the_query_axis(tensors):
    _, query, key = tensors
    maps = channel_attention_maps(jnp.asarray(query), jnp.asarray(key), 4, over="query")
    np.testing.assert_allclose(np.asarray(maps).sum(-1), 1, atol=1e-5)


def test_logits_and_softmax_stay_in_float32_under_bfloat16(tensors):
    query, key, _ = (jnp.asarray(x, jnp.bfloat16) for x in tensors)
    assert spatial_attention_maps(query, key).dtype == jnp.float32
    assert channel_attention_maps(key, key, 4).dtype == jnp.float32
