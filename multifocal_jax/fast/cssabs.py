"""Both CSSABs (sections 3.2 and 3.3) from their parameters, in the cheapest order of computation."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from multifocal_jax.config import ModelConfig
from multifocal_jax.fast.convolution import convolve
from multifocal_jax.fast.extent import Extent
from multifocal_jax.fast.pooling import pool_phases, pool_recalibrated, spatial_pyramid_pool
from multifocal_jax.fast.rows import is_large, large_strip_height, map_rows
from multifocal_jax.fast.spatial_attention import add_spatial_attention
from multifocal_jax.ops import channel_attention_maps, recalibrate, spatial_attention, spatial_attention_maps

Params = Any  # of a block, with the names of `models`
Large = Float[Array, "b h w c"]
Small = Float[Array, "b h2 w2 c"]
Levels = list[Float[Array, "b _ _ c"]]


def convolution(params: Params, x: Float[Array, "b h w c"], stride: int = 1, extent: Extent | None = None) -> Array:
    """`models.layers.Conv`, which sees zeros in the padding of a padded map."""
    return convolve(x, params["kernel"], params["bias"], stride, extent)


def spatial_cssabs(
    config: ModelConfig,
    params: list[Params],
    larges: Levels,
    smalls: Levels,
    of_larges: list[Extent | None],
    of_smalls: list[Extent | None],
) -> Levels:
    """`models.spatial_cssab.SpatialCSSAB` (eqs. 4 and 5) of all levels: keys and values are pooled, then projected.

    Args:
        config: the architecture.
        params: of every level's block.
        larges: (B, H, W, C) of every level.
        smalls: (B, H2, W2, C), likewise.
        of_larges: extents of the pictures in them, where they are padded.
        of_smalls: likewise.

    Returns:
        (B, H, W, C) of every level.
    """
    levels = list(zip(params, larges, smalls, of_larges, of_smalls, strict=True))
    if config.projection_kernel != 1:  # cannot pool before projecting
        return [_spatial_cssab_of_maps(config, *level) for level in levels]
    pooled = [pool_phases(small, config.spp_sizes, extent) for *_, small, _, extent in levels]
    # One product for all levels. So no map is changed in place, and copied for that, before all have been pooled.
    stacked = jax.tree.map(lambda *values: jnp.stack(values), *pooled)
    keys, values = (
        jax.vmap(pool_recalibrated)(stacked, *map(jnp.stack, zip(*(_matrix(of[name]) for of in params), strict=True)))
        for name in ("key", "value")
    )
    return [
        add_spatial_attention(large, *_matrix(of_level["query"]), key, value)
        for of_level, large, key, value in zip(params, larges, keys, values, strict=True)
    ]


def _spatial_cssab_of_maps(
    config: ModelConfig, params: Params, large: Large, small: Small, of_large: Extent | None, of_small: Extent | None
) -> Large:
    query = recalibrate(convolution(params["query"], large, extent=of_large))
    key, value = (
        spatial_pyramid_pool(recalibrate(convolution(params[name], small, extent=of_small)), config.spp_sizes, of_small)
        for name in ("key", "value")
    )
    return large + spatial_attention(spatial_attention_maps(query, key), value)


def channel_cssab(
    config: ModelConfig, params: Params, large: Large, small: Small, of_large: Extent | None, of_small: Extent | None
) -> Large:
    """`models.channel_cssab.ChannelCSSAB` (eq. 6): V's projection and the heads' maps are one matrix per picture.

    Args:
        config: the architecture.
        params: of the block.
        large: (B, H, W, C).
        small: (B, H2, W2, C).
        of_large: extent of the pictures in it, where it is padded.
        of_small: likewise.

    Returns:
        (B, H, W, C).
    """

    def pooled(name: str, x: Array, extent: Extent | None) -> Array:
        if config.projection_kernel != 1:
            return spatial_pyramid_pool(convolution(params[name], x, extent=extent), config.spp_sizes, extent)
        kernel, bias = _matrix(params[name])  # a mean of projections is the projection of the mean
        return spatial_pyramid_pool(x, config.spp_sizes, extent) @ kernel + bias[None, None]

    query, key = pooled("query", large, of_large), pooled("key", small, of_small)
    maps = channel_attention_maps(query, key, config.heads, config.channel_softmax)
    mixing = jax.vmap(lambda heads: jax.scipy.linalg.block_diag(*heads))(maps).astype(large.dtype)
    if not config.value_projection:
        return large + jnp.einsum("bhwi,bij->bhwj", large, mixing)
    if config.projection_kernel != 1:
        value = convolution(params["value"], large, extent=of_large)
        return large + jnp.einsum("bhwi,bij->bhwj", value, mixing)
    kernel, bias = _matrix(params["value"])  # (F W + b) A = F (W A) + b A
    return _add_mixed(large, kernel @ mixing, bias @ mixing)


@jax.custom_vjp
def _add_mixed(x: Large, mixing: Float[Array, "b c c"], bias: Float[Array, "b c"]) -> Large:
    """F + F A + b, on a CPU in place where a large F is not needed any more."""
    b, h, w, c = x.shape
    if not is_large(x, c):
        return _mix(x, mixing, bias)
    rows = large_strip_height(h, b * w * c)

    def strips(x: Large, *rest: Array) -> Large:
        return map_rows(lambda _, strip: _mix(strip, *rest), x, rows)

    return jax.lax.platform_dependent(x, mixing, bias, cpu=strips, default=_mix)


def _mix(x: Large, mixing: Float[Array, "b c c"], bias: Float[Array, "b c"]) -> Large:
    return x + (jnp.einsum("bhwi,bij->bhwj", x, mixing) + bias[:, None, None])


_add_mixed.defvjp(partial(jax.vjp, _mix), lambda pull, gradient: pull(gradient))


def _matrix(params: Params) -> tuple[Float[Array, "c f"], Float[Array, " f"]]:
    """Kernel and bias of a 1×1 convolution."""
    return params["kernel"][0, 0], params["bias"]
