"""Operations on padded maps against the same on the picture alone, in float64, with large numbers in the padding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multifocal_jax import ops
from multifocal_jax.fast import pooling, rows, scales
from multifocal_jax.fast.convolution import convolve
from multifocal_jax.fast.extent import Extent, zero_beyond
from multifocal_jax.fast.residual import residual_block
from multifocal_jax.fast.resize import upsample_bilinear

HEIGHT, WIDTH = 12, 20  # of the picture, in maps of 16 by 32


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def maps(rng, shrunk=1, channels=4):
    """A picture and the padded map that holds it."""
    padded = rng.standard_normal((1, 16 // shrunk, 32 // shrunk, channels)) * 1e6
    picture = rng.standard_normal((1, HEIGHT // shrunk, WIDTH // shrunk, channels))
    padded[:, : picture.shape[1], : picture.shape[2]] = picture
    return jnp.asarray(picture), jnp.asarray(padded)


def extent(shrunk=1):
    return Extent(jnp.int32(HEIGHT), jnp.int32(WIDTH)).shrunk(shrunk)


def assert_same(of_padded, of_picture):
    cut = of_padded[:, : of_picture.shape[1], : of_picture.shape[2]]
    np.testing.assert_allclose(cut, of_picture, atol=1e-12)


def test_zero_beyond(rng):
    picture, padded = maps(rng)
    expected = np.pad(picture, ((0, 0), (0, 16 - HEIGHT), (0, 32 - WIDTH), (0, 0)))
    np.testing.assert_array_equal(zero_beyond(padded, extent()), expected)
    np.testing.assert_array_equal(zero_beyond(padded[:, 8:], extent(), 8), expected[:, 8:])
    assert zero_beyond(padded, None) is padded


def test_pooling(rng):
    picture, padded = maps(rng)
    pool = jax.jit(functools.partial(pooling.spatial_pyramid_pool, sizes=(1, 3, 8)))
    expected = ops.spatial_pyramid_pool(picture, (1, 3, 8))
    for ours in (pool(padded, extent=extent()), pool(picture)):
        np.testing.assert_allclose(ours, expected, atol=1e-12)
    phases = jax.jit(functools.partial(pooling.pool_phases, sizes=(1, 3, 8)))
    for ours, expected in zip(phases(padded, extent=extent()), phases(picture), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-12)


def test_changes_of_size(rng):
    picture, padded = maps(rng)
    for factor in (1, 2, 4):
        up = functools.partial(upsample_bilinear, factor=factor)
        for ours in (jax.jit(up)(padded, extent=extent()), up(picture)):
            assert_same(ours, ops.upsample_bilinear(picture, factor))


@pytest.mark.parametrize("cpu", [True, False])
@pytest.mark.parametrize("strip", [1, 160, 4096])  # the smallest, one that does not divide the height, all rows
def test_strips(rng, monkeypatch, strip, cpu):
    monkeypatch.setattr(scales, "CPU_STRIP", strip)
    monkeypatch.setattr(scales, "STRIP", strip)
    levels = [maps(rng, 2**level) for level in range(3)]
    kernel, bias = jnp.asarray(rng.standard_normal((3, 3, 4, 16))), jnp.asarray(rng.standard_normal(16))
    (skip, padded_skip), (small, padded_small), _ = levels
    ours = scales._add_shuffled_strips(cpu, (padded_skip,), padded_small, kernel, bias, extent(2))[0]
    assert_same(ours, scales.add_shuffled(skip, small, kernel, bias))
    kernel, bias = jnp.asarray(rng.standard_normal((3, 3, 12, 4))), jnp.asarray(rng.standard_normal(4))
    pictures, padded = ([level[side] for level in levels] for side in (0, 1))
    expected = scales.merge_scales(pictures, kernel, bias)
    assert_same(scales._merge_strips(cpu, padded, kernel, bias, extent()), expected)
    monkeypatch.setattr(rows, "_LARGE", 1)
    monkeypatch.setattr(rows, "_LARGE_STRIP", 10 * strip)
    assert_same(scales._merge_strips(cpu, padded, kernel, bias, extent()), expected)


@pytest.mark.parametrize("strip", [1, 1000, 4096, None])  # as above, of what is taken for a large map; plainly
def test_convolutions(rng, monkeypatch, strip):
    (picture, padded), kernels = maps(rng), jnp.asarray(rng.standard_normal((2, 3, 3, 4, 4)))
    weights = kernels[0], jnp.ones(4), kernels[1], jnp.ones(4)
    expected = [residual_block(picture, weights), *(convolve(picture, *weights[:2], stride) for stride in (1, 2))]
    if strip:
        monkeypatch.setattr(rows, "_LARGE", 1)
        monkeypatch.setattr(rows, "_LARGE_STRIP", strip)
    found = [residual_block(padded, weights, extent())]
    found += [convolve(padded, *weights[:2], stride, extent()) for stride in (1, 2)]
    for ours, of_picture in zip(found, expected, strict=True):
        assert_same(ours / 1e2, of_picture / 1e2)


def test_gradients_stop_at_the_picture(rng):
    """Of the two operations whose gradient is written by hand."""
    (skip, padded_skip), (small, padded_small) = maps(rng), maps(rng, 2)
    kernel, bias = jnp.asarray(rng.standard_normal((3, 3, 4, 16))), jnp.asarray(rng.standard_normal(16))
    merging, merging_bias = jnp.asarray(rng.standard_normal((3, 3, 8, 4))), jnp.asarray(rng.standard_normal(4))

    def total(skip, small, kernel, merging, extent):
        up = scales.add_shuffled(skip, small, kernel, bias, extent and extent.shrunk(2))
        merged = scales.merge_scales([up, small], merging, merging_bias, extent)
        return jnp.sum(merged[:, :HEIGHT, :WIDTH] ** 2)

    gradients = jax.grad(total, argnums=(0, 1, 2, 3))
    expected = gradients(skip, small, kernel, merging, None)
    ours = gradients(padded_skip, padded_small, kernel, merging, extent())
    for x, y in zip(ours[:2], expected[:2], strict=True):
        assert_same(x / 1e3, y / 1e3)
        assert not np.any(x[:, y.shape[1] :])
    for x, y in zip(ours[2:], expected[2:], strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-9)
