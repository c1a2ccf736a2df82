"""The similarity searches of the paper: over space (eqs. 3 to 5) and over channels (eq. 6)."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

BANDS = 4  # LL, LH, HL, HH

Map = Float[Array, "b h w c"]
Anchors = Float[Array, "b s c"]


def similarity(query: Map, key: Anchors) -> Float[Array, "b h w s"]:
    """softmax(Q ⊗ Kᵀ) of eq. 3, unscaled, over the S keys; in float32 or wider.

    Args:
        query: (B, H, W, C).
        key: (B, S, C).

    Returns:
        (B, H, W, S); sums to 1 over S.
    """
    return jax.nn.softmax(jnp.einsum("bhwc,bsc->bhws", query, key, preferred_element_type=_wide(query)), axis=-1)


def spatial_attention_maps(query: Map, key: Anchors) -> Float[Array, "b 4 h w s"]:
    """M = softmax[Q_LL K_LLᵀ, Q_LH K_LHᵀ, Q_HL K_HLᵀ, Q_HH K_HHᵀ] (eq. 4), in float32 or wider.

    Args:
        query: (B, H, W, C), re-calibrated; band k is channels k·C/4 … (k+1)·C/4 − 1.
        key: (B, S, C), re-calibrated and pooled, bands likewise.

    Returns:
        (B, 4, H, W, S); sums to 1 over S.
    """
    bands = zip(_bands(query), _bands(key), strict=True)
    return jnp.stack([similarity(query_k, key_k) for query_k, key_k in bands], axis=1)


def spatial_attention(maps: Float[Array, "b 4 h w s"], value: Anchors) -> Map:
    """[M_LL V_LL, M_LH V_LH, M_HL V_HL, M_HH V_HH], which eq. 5 adds to F_in.

    Args:
        maps: (B, 4, H, W, S), M of eq. 4.
        value: (B, S, C), re-calibrated and pooled; band k is channels k·C/4 … (k+1)·C/4 − 1.

    Returns:
        (B, H, W, C) in the dtype of `value`.
    """
    bands = zip(jnp.unstack(maps.astype(value.dtype), axis=1), _bands(value), strict=True)
    return jnp.concatenate([jnp.einsum("bhws,bsc->bhwc", map_k, value_k) for map_k, value_k in bands], axis=-1)


def channel_attention_maps(
    query: Anchors, key: Anchors, heads: int, over: Literal["key", "query"] = "key"
) -> Float[Array, "b {heads} d d"]:
    """softmax(Kᵀ ⊗ Q) of eq. 6 for every head, unscaled, in float32 or wider.

    Args:
        query: (B, S, C), pooled; head n is channels n·C/heads … (n+1)·C/heads − 1.
        key: (B, S, C), likewise.
        heads: a divisor of C.
        over: "key" normalises over the key's channels, so that each output channel of V A is a weighted average of
            V's channels; "query" normalises over the other axis.

    Returns:
        (B, heads, C/heads, C/heads), indexed [key channel, query channel].
    """
    logits = jnp.einsum(
        "bsni,bsnj->bnij", _heads(key, heads), _heads(query, heads), preferred_element_type=_wide(query)
    )
    return jax.nn.softmax(logits, axis=-2 if over == "key" else -1)


def channel_attention(value: Map, maps: Float[Array, "b n d d"]) -> Map:
    """V ⊗ softmax(Kᵀ ⊗ Q) for every head, which eq. 6 adds to F_in.

    Args:
        value: (B, H, W, C); head n is channels n·C/heads … (n+1)·C/heads − 1.
        maps: (B, heads, C/heads, C/heads), of `channel_attention_maps`.

    Returns:
        (B, H, W, C) in the dtype of `value`.
    """
    mixed = jnp.einsum("bhwni,bnij->bhwnj", _heads(value, maps.shape[1]), maps.astype(value.dtype))
    return mixed.reshape(value.shape)


def _bands(x: Float[Array, "... c"]) -> list[Float[Array, "... c/4"]]:
    return jnp.split(x, BANDS, axis=-1)


def _heads(x: Float[Array, "... c"], heads: int) -> Float[Array, "... {heads} c/{heads}"]:
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)


def _wide(x: Array) -> jnp.dtype:
    return jnp.promote_types(x.dtype, jnp.float32)
