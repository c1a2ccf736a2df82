import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from multifocal_jax.ops import adaptive_average_pool, spatial_pyramid_pool


def bins_by_definition(x, size):
    """⌊i·H/o⌋ … ⌈(i+1)·H/o⌉ along both sides, written out."""
    b, h, w, c = x.shape
    out = np.zeros((b, size, size, c))
    for i in range(size):
        for j in range(size):
            rows = slice(i * h // size, -(-(i + 1) * h // size))
            columns = slice(j * w // size, -(-(j + 1) * w // size))
            out[:, i, j] = x[:, rows, columns].mean((1, 2))
    return out


@pytest.mark.parametrize("size", [1, 3, 6, 8])
@pytest.mark.parametrize("shape", [(16, 24), (13, 20), (3, 5), (82, 122)])
def test_bins_overlap_where_the_size_does_not_divide(rng, size, shape):
    x = rng.standard_normal((2, *shape, 3)).astype(np.float32)
    np.testing.assert_allclose(adaptive_average_pool(jnp.asarray(x), size), bins_by_definition(x, size), atol=1e-5)


def test_symbolic_height_and_width(rng):
    h, w = export.symbolic_shape("h, w")
    exported = export.export(jax.jit(lambda x: spatial_pyramid_pool(x, (1, 3, 6, 8))))(
        jax.ShapeDtypeStruct((1, h, w, 4), jnp.float32)
    )
    x = jnp.asarray(rng.standard_normal((1, 11, 17, 4)), jnp.float32)
    np.testing.assert_allclose(exported.call(x), spatial_pyramid_pool(x, (1, 3, 6, 8)), atol=1e-6)
