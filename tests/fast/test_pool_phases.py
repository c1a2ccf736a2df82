import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multifocal_jax.fast.pooling import pool_phases, pool_recalibrated
from multifocal_jax.ops import recalibrate, spatial_pyramid_pool


@pytest.mark.parametrize(("height", "width"), [(2, 2), (10, 14), (22, 16)])
def test_pooling_before_projecting_gives_the_same(rng, height, width):
    with jax.enable_x64(True):
        x, kernel, bias = (jnp.asarray(rng.standard_normal(shape)) for shape in ((2, height, width, 8), (8, 12), (12,)))
        expected = spatial_pyramid_pool(recalibrate(x @ kernel + bias[None, None, None]), (1, 3, 6, 8))
        ours = pool_recalibrated(pool_phases(x, (1, 3, 6, 8)), kernel, bias)
        np.testing.assert_allclose(ours, expected, atol=1e-13)


def test_the_small_differences_of_the_bands_survive_bfloat16(rng):
    """The mean of a wavelet band over a bin of 16×16 pixels, or of all, is far smaller than the pixels."""
    x = jnp.asarray(1 + 0.05 * rng.standard_normal((1, 128, 128, 8)), jnp.bfloat16)
    kernel = jnp.eye(8, dtype=jnp.bfloat16)
    ours = pool_recalibrated(pool_phases(x, (1, 8)), kernel, jnp.zeros(8, jnp.bfloat16))
    assert ours.dtype == jnp.bfloat16
    with jax.enable_x64(True):
        expected = np.asarray(spatial_pyramid_pool(recalibrate(jnp.asarray(x, jnp.float64)), (1, 8)))
    of_bands = np.abs(np.asarray(ours, np.float64) - expected)[..., 2:], np.abs(expected)[..., 2:]
    for bins in (slice(1), slice(1, None)):
        error, size = (values[:, bins].max() for values in of_bands)
        assert error < 0.01 * size
