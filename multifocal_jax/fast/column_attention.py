"""The gradients of the spatial attention on a CPU, with pixels as the columns of all products.

A band has few channels, 8 in a network of 32. With a pixel per row, as elsewhere, the products are as narrow as that;
with a pixel per column they are as wide as a strip of pixels, and the softmax combines whole rows.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from multifocal_jax.fast.phases import join_phases, split_phases
from multifocal_jax.fast.rows import whole_strip_height
from multifocal_jax.ops import haar_bands
from multifocal_jax.ops.attention import BANDS

# Pixels of a strip: the maps of a band and their gradients, S numbers per pixel each, stay in the cache of one core.
STRIP = 512

Map = Float[Array, "b h w c"]


def attention_gradients(
    x: Map,
    kernel: Float[Array, "c c"],
    bias: Float[Array, " c"],
    key: Float[Array, "b s c"],
    value: Float[Array, "b s c"],
    gradient: Map,
) -> tuple[Map, Array, Array, Array, Array]:
    """Gradients of the inputs of `spatial_attention.add_spatial_attention`, computed in float32 or wider.

    Args:
        x: (B, H, W, C), F_in; H and W even.
        kernel: (C, C), of the 1×1 convolution that makes Q.
        bias: (C,).
        key: (B, S, C).
        value: (B, S, C).
        gradient: (B, H, W, C), of the result.

    Returns:
        Those of the first five arguments, in their shapes and dtypes.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    weights = kernel.astype(wide), bias.astype(wide)

    def of_image(image: tuple[Array, ...]) -> tuple[Array, ...]:
        x, key, value, gradient = image
        h, w, c = x.shape
        rows = whole_strip_height(h, w, STRIP, 2)
        rest = *weights, key.astype(wide), value.astype(wide)

        def step(total: Any, strip: tuple[Array, Array]) -> tuple[Any, Array]:
            x, gradient = (part.astype(wide)[None] for part in strip)
            dx, *others = _strip_gradients(x, *rest, gradient)
            return jax.tree.map(jnp.add, total, others), dx[0].astype(strip[0].dtype)

        strips = x.reshape(-1, rows, w, c), gradient.reshape(-1, rows, w, c)
        total, dx = jax.lax.scan(step, [jnp.zeros_like(part) for part in rest], strips)
        return dx.reshape(x.shape), *total

    dx, d_kernel, d_bias, d_key, d_value = jax.lax.map(of_image, (x, key, value, gradient))
    rest = d_kernel.sum(0), d_bias.sum(0), d_key, d_value
    return dx, *(part.astype(of.dtype) for part, of in zip(rest, (kernel, bias, key, value), strict=True))


def _strip_gradients(x: Map, kernel: Array, bias: Array, key: Array, value: Array, gradient: Map) -> tuple[Array, ...]:
    _, h, w, c = x.shape
    places = jnp.split(split_phases(x).reshape(-1, 4 * c), 4, axis=1)  # the pixels of 2×2 blocks, (n, C) each
    projected = [(pixels @ kernel).T + bias[:, None] for pixels in places]
    bands, to_projected = jax.vjp(_haar, *projected)
    of_update = split_phases(gradient).reshape(-1, 4, c).transpose(2, 1, 0).reshape(c, h * w)
    # A pixel shuffle: channel 4d + p of a band's blocks is channel d of their pixels at place p.
    queries = (band.reshape(-1, h * w) for band in bands)
    split = jnp.split(key, BANDS, axis=1), jnp.split(value, BANDS, axis=1), jnp.split(of_update, BANDS)
    d_queries, d_keys, d_values = zip(*map(_band_gradients, queries, *split), strict=True)
    d_projected = to_projected(tuple(d_query.reshape(c, -1) for d_query in d_queries))
    d_kernel = jnp.stack([(d @ pixels).T for d, pixels in zip(d_projected, places, strict=True)]).sum(0)
    d_bias = jnp.stack(d_projected).sum((0, 2))
    through_queries = jnp.concatenate([(kernel @ d).T for d in d_projected], axis=1)
    dx = gradient + join_phases(through_queries.reshape(1, h // 2, w // 2, 4 * c))
    return dx, d_kernel, d_bias, jnp.concatenate(d_keys, axis=1), jnp.concatenate(d_values, axis=1)


def _haar(*places: Array) -> tuple[Array, ...]:
    """The bands of pixels in the order of `split_phases`."""
    top_left, top_right, bottom_left, bottom_right = places
    return haar_bands(top_left, bottom_left, top_right, bottom_right)


def _band_gradients(
    query: Float[Array, "d n"], key: Float[Array, "s d"], value: Float[Array, "s d"], gradient: Float[Array, "d n"]
) -> tuple[Float[Array, "d n"], Float[Array, "s d"], Float[Array, "s d"]]:
    """Gradients of query, key and value of M V, M = softmax(K Q): the softmax's is M∘(V g − Σ g∘o)."""
    logits = key @ query
    # The barriers keep the compiler from computing these again in every product that uses them.
    powers = jax.lax.optimization_barrier(jnp.exp(logits - logits.max(0, keepdims=True)))
    sums = jnp.einsum("sd,sn->dn", jnp.concatenate([value, jnp.ones_like(value[:, :1])], axis=1), powers)
    out, gradient = sums[:-1] / sums[-1:], gradient / sums[-1:]
    d_logits = powers * (value @ gradient - (gradient * out).sum(0, keepdims=True))
    d_logits = jax.lax.optimization_barrier(d_logits)
    d_query = jnp.einsum("sd,sn->dn", key, d_logits)
    return d_query, jnp.einsum("sn,dn->sd", d_logits, query), jnp.einsum("sn,dn->sd", powers, gradient)
