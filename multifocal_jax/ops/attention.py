"""The two similarity searches of the paper: over space (eqs. 4 and 5) and over channels (eq. 6)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

BANDS = 4

# Pixels that the CPU takes at a time: their logits of one band, 110 float32 each, stay in a core's cache.
BLOCK = 4096

Map = Float[Array, "b h w c"]
Anchors = Float[Array, "b s c"]


def _split(x: Float[Array, "... c"], groups: int) -> Float[Array, "... {groups} c/{groups}"]:
    return x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)


def spatial_attention_maps(query: Map, key: Anchors) -> Float[Array, "b 4 h w s"]:
    """M of eq. 4: per wavelet band, the softmax over the S anchors of Q Kᵀ, unscaled, in float32 or wider.

    Args:
        query: (B, H, W, C), re-calibrated; band k is channels k·C/4 … (k+1)·C/4 − 1.
        key: (B, S, C), re-calibrated and pooled, bands likewise.

    Returns:
        (B, 4, H, W, S); sums to 1 over S.
    """
    wide = jnp.promote_types(query.dtype, jnp.float32)
    logits = jnp.einsum("bhwgd,bsgd->bghws", _split(query, BANDS), _split(key, BANDS), preferred_element_type=wide)
    return jax.nn.softmax(logits, axis=-1)


def plain_spatial_attention(query: Map, key: Anchors, value: Anchors) -> Map:
    """`spatial_attention` as eqs. 4 and 5 have it: the reference, and what accelerators run."""
    maps = spatial_attention_maps(query, key).astype(value.dtype)
    return jnp.einsum("bghws,bsgd->bhwgd", maps, _split(value, BANDS)).reshape(query.shape)


@jax.custom_vjp
def spatial_attention(query: Map, key: Anchors, value: Anchors) -> Map:
    """The update of eq. 5: [M_LL V_LL, M_LH V_LH, M_HL V_HL, M_HH V_HH], to be added to F_in.

    The 4·S numbers per pixel of M are not kept for the gradient but computed again, and the CPU takes some rows of
    one image and one band at a time, so that they never leave its cache (docs/performance.md).

    Args:
        query: (B, H, W, C), re-calibrated; band k is channels k·C/4 … (k+1)·C/4 − 1.
        key: (B, S, C), re-calibrated and pooled.
        value: (B, S, C), likewise.

    Returns:
        (B, H, W, C) in the dtype of `value`.
    """
    return jax.lax.platform_dependent(query, key, value, cpu=_blockwise, default=plain_spatial_attention)


def _forward(query: Map, key: Anchors, value: Anchors) -> tuple[Map, tuple[Map, Anchors, Anchors]]:
    return spatial_attention(query, key, value), (query, key, value)


def _backward(saved: tuple[Map, Anchors, Anchors], gradient: Map) -> tuple[Map, Anchors, Anchors]:
    def plain(query: Map, key: Anchors, value: Anchors, gradient: Map) -> tuple[Map, Anchors, Anchors]:
        return jax.vjp(plain_spatial_attention, query, key, value)[1](gradient)

    return jax.lax.platform_dependent(*saved, gradient, cpu=_blockwise_gradient, default=plain)


spatial_attention.defvjp(_forward, _backward)


def _rows(height: int, width: int) -> int:
    """The divisor of `height` that makes blocks of rows of about `BLOCK` pixels; all rows of a symbolic shape."""
    if not isinstance(height, int) or not isinstance(width, int):
        return height
    divisors = [rows for rows in range(1, height + 1) if height % rows == 0]
    return min(divisors, key=lambda rows: max(rows * width / BLOCK, BLOCK / (rows * width)))


def _over_blocks(body: Callable[..., Any], maps: tuple[Map, ...], anchors: tuple[Anchors, ...]) -> Any:
    """Call `body(pixels of each map, anchors of one image)` for each block of rows of each image, one by one.

    Returns:
        What `body` returns, with leading axes for image and block.
    """
    b, h, w, c = maps[0].shape
    rows = _rows(h, w)
    blocks = tuple(x.reshape(b, h // rows, rows * w, c) for x in maps)

    def image(parts: tuple[Any, Any]) -> Any:
        pixels, of_image = parts
        return jax.lax.map(lambda block: body(*block, *of_image), pixels)

    return jax.lax.map(image, (blocks, anchors))


def _bands(*arrays: Array) -> list[tuple[Array, ...]]:
    return list(zip(*(jnp.split(x, BANDS, axis=-1) for x in arrays), strict=True))


def _exponentials(
    query: Float[Array, "n d"], key: Float[Array, "s d"]
) -> tuple[Float[Array, "n s"], Float[Array, "n 1"]]:
    """Softmax of Q Kᵀ before the division, and the divisor."""
    wide = jnp.promote_types(query.dtype, jnp.float32)
    logits = jnp.matmul(query, key.T, preferred_element_type=wide)
    powers = jnp.exp(logits - logits.max(-1, keepdims=True))
    return powers, powers.sum(-1, keepdims=True)


def _blockwise(query: Map, key: Anchors, value: Anchors) -> Map:
    def block(query: Array, key: Array, value: Array) -> Array:
        out = []
        for q, k, v in _bands(query, key, value):
            powers, total = _exponentials(q, k)
            product = jnp.matmul(powers.astype(v.dtype), v, preferred_element_type=total.dtype)
            out.append((product / total).astype(v.dtype))
        return jnp.concatenate(out, axis=-1)

    return _over_blocks(block, (query,), (key, value)).reshape(query.shape)


def _blockwise_gradient(query: Map, key: Anchors, value: Anchors, gradient: Map) -> tuple[Map, Anchors, Anchors]:
    def block(query: Array, gradient: Array, key: Array, value: Array) -> tuple[Array, Array, Array]:
        d_query, d_key, d_value = [], [], []
        for q, g, k, v in _bands(query, gradient, key, value):
            powers, total = _exponentials(q, k)
            weights = powers / total
            d_value.append(jnp.matmul(weights.T.astype(g.dtype), g, preferred_element_type=total.dtype))
            d_weights = jnp.matmul(g, v.T, preferred_element_type=total.dtype)
            d_logits = weights * (d_weights - jnp.sum(weights * d_weights, axis=-1, keepdims=True))
            d_logits = d_logits.astype(q.dtype)
            d_query.append(jnp.matmul(d_logits, k))
            d_key.append(jnp.matmul(d_logits.T, q, preferred_element_type=total.dtype))
        return tuple(jnp.concatenate(parts, axis=-1) for parts in (d_query, d_key, d_value))  # pyright: ignore

    d_query, d_key, d_value = _over_blocks(block, (query, gradient), (key, value))
    return d_query.reshape(query.shape), d_key.sum(1).astype(key.dtype), d_value.sum(1).astype(value.dtype)


def channel_attention_map(query: Anchors, key: Anchors, heads: int, over: str = "key") -> Float[Array, "b n d d"]:
    """A of eq. 6, softmax(Kᵀ Q) per head, unscaled, in float32 or wider.

    Args:
        query: (B, S, C), pooled; head n is channels n·C/heads … (n+1)·C/heads − 1.
        key: (B, S, C), likewise.
        heads: number of heads, a divisor of C.
        over: "key" normalises over the key's channels, so that each output channel of V A is a weighted average of
            V's channels; "query" normalises over the other axis.

    Returns:
        (B, heads, C/heads, C/heads), indexed [key channel, query channel].
    """
    wide = jnp.promote_types(query.dtype, jnp.float32)
    logits = jnp.einsum("bsni,bsnj->bnij", _split(key, heads), _split(query, heads), preferred_element_type=wide)
    return jax.nn.softmax(logits, axis=-2 if over == "key" else -1)
