"""The parameter-free operations against PyTorch's."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

from multifocal_jax import ops


def channels_first(x):
    return torch.from_numpy(x).permute(0, 3, 1, 2)


def channels_last(x):
    return x.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("size", [1, 3, 6, 8])
@pytest.mark.parametrize(("height", "width"), [(24, 48), (23, 41), (7, 5), (1, 2), (160, 244)])
def test_adaptive_average_pool(rng, size, height, width):
    x = rng.standard_normal((2, height, width, 3)).astype(np.float32)
    expected = channels_last(functional.adaptive_avg_pool2d(channels_first(x), size))
    np.testing.assert_allclose(ops.adaptive_average_pool(jnp.asarray(x), size), expected, atol=2e-6)


def test_spatial_pyramid_pool_concatenates_the_grids_row_by_row(rng):
    x = rng.standard_normal((2, 17, 22, 4)).astype(np.float32)
    grids = [functional.adaptive_avg_pool2d(channels_first(x), size).flatten(2) for size in (1, 3, 6, 8)]
    expected = torch.cat(grids, dim=2).transpose(1, 2).numpy()
    assert expected.shape == (2, 110, 4)
    np.testing.assert_allclose(ops.spatial_pyramid_pool(jnp.asarray(x), (1, 3, 6, 8)), expected, atol=2e-6)


@pytest.mark.parametrize("factor", [2, 3])
def test_pixel_shuffle(rng, factor):
    x = rng.standard_normal((2, 4, 5, 2 * factor**2)).astype(np.float32)
    expected = channels_last(functional.pixel_shuffle(channels_first(x), factor))
    np.testing.assert_array_equal(ops.pixel_shuffle(jnp.asarray(x), factor), expected)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_upsample_bilinear(rng, factor):
    x = rng.standard_normal((2, 5, 7, 3)).astype(np.float32)
    expected = functional.interpolate(channels_first(x), scale_factor=factor, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(ops.upsample_bilinear(jnp.asarray(x), factor), channels_last(expected), atol=1e-6)


def test_average_downsample(rng):
    x = rng.standard_normal((2, 6, 8, 3)).astype(np.float32)
    expected = channels_last(functional.avg_pool2d(channels_first(x), 2))
    np.testing.assert_allclose(ops.average_downsample(jnp.asarray(x)), expected, atol=1e-6)
