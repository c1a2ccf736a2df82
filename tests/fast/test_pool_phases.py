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
