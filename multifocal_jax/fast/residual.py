"""A residual block, of large maps by strips of rows and in place; differentiated layer by layer."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from multifocal_jax.fast.convolution import convolve, convolve_rows
from multifocal_jax.fast.extent import Extent, zero_beyond
from multifocal_jax.fast.rows import is_large, large_strip_height, map_rows_around

Map = Float[Array, "b h w c"]
Kernel = Float[Array, "3 3 c c"]
Bias = Float[Array, " c"]
Weights = tuple[Kernel, Bias, Kernel, Bias]


@jax.custom_vjp
def residual_block(x: Map, weights: Weights, extent: Extent | None = None) -> Map:
    """x + conv3×3(ReLU(conv3×3(x))), in place where a large x is not needed any more.

    Args:
        x: (B, H, W, C), H even.
        weights: kernel (3, 3, C, C) and bias (C,) of both convolutions.
        extent: of the picture in x, where it is padded.

    Returns:
        (B, H, W, C).
    """
    if not is_large(x, x.shape[-1]):
        return _layers(x, weights, extent)
    return jax.lax.platform_dependent(x, weights, extent, cpu=_strips, default=_layers)


def _layers(x: Map, weights: Weights, extent: Extent | None = None) -> Map:
    first, first_bias, second, second_bias = weights
    return x + convolve(jax.nn.relu(convolve(x, first, first_bias, 1, extent)), second, second_bias, 1, extent)


residual_block.defvjp(partial(jax.vjp, _layers), lambda pull, gradient: pull(gradient))


def _strips(x: Map, weights: Weights, extent: Extent | None = None) -> Map:
    b, h, w, c = x.shape
    first_kernel, first_bias, second_kernel, second_bias = weights

    def strip(first: Array, window: Array) -> Array:
        inner = convolve_rows(zero_beyond(window, extent, first - 2), first_kernel, cpu=False)
        inner = jax.nn.relu(inner + first_bias[None, None, None])
        inside = first - 1 + jnp.arange(inner.shape[1]) >= 0
        inner = zero_beyond(jnp.where(inside[:, None, None], inner, 0), extent or Extent(h, w), first - 1)
        return window[:, 2:-2] + convolve_rows(inner, second_kernel, cpu=False) + second_bias[None, None, None]

    return map_rows_around(strip, x, large_strip_height(h, b * w * c, 2), 2)
