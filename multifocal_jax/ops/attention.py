"""The two similarity searches of the paper: over space (eqs. 4 and 5) and over channels (eq. 6)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

BANDS = 4


def _split(x: Float[Array, "... c"], groups: int) -> Float[Array, "... {groups} c/{groups}"]:
    return x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)


def spatial_attention_maps(query: Float[Array, "b h w c"], key: Float[Array, "b s c"]) -> Float[Array, "b 4 h w s"]:
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


def spatial_attention(
    query: Float[Array, "b h w c"], key: Float[Array, "b s c"], value: Float[Array, "b s c"]
) -> Float[Array, "b h w c"]:
    """The update of eq. 5: [M_LL V_LL, M_LH V_LH, M_HL V_HL, M_HH V_HH], to be added to F_in.

    Args:
        query: (B, H, W, C), re-calibrated; band k is channels k·C/4 … (k+1)·C/4 − 1.
        key: (B, S, C), re-calibrated and pooled.
        value: (B, S, C), likewise.

    Returns:
        (B, H, W, C) in the dtype of `value`.
    """
    maps = spatial_attention_maps(query, key).astype(value.dtype)
    out = jnp.einsum("bghws,bsgd->bhwgd", maps, _split(value, BANDS))
    return out.reshape(query.shape)


def channel_attention_map(
    query: Float[Array, "b s c"], key: Float[Array, "b s c"], heads: int, over: str = "key"
) -> Float[Array, "b n d d"]:
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
