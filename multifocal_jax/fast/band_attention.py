"""Attention to a few anchors in every wavelet band, M_k V_k of eqs. 4 and 5, as products that XLA computes well."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Queries = Float[Array, "b n d"]
Anchors = Float[Array, "b s d"]


def attend(queries: list[Queries], keys: list[Anchors], values: list[Anchors]) -> Float[Array, "b n c"]:
    """softmax(Q Kᵀ) V of every band, unscaled; logits, softmax and sums in float32 or wider.

    Args:
        queries: (B, N, D) of every band.
        keys: (B, S, D), likewise.
        values: (B, S, D), likewise.

    Returns:
        (B, N, C) in the dtype of the values, the bands one after the other.
    """
    out = []
    for query, key, value in zip(queries, keys, values, strict=True):
        logits = _logits(query, key)
        # The softmax does not depend on what is subtracted, so neither does its gradient.
        powers = jnp.exp(logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True)))
        product = jnp.einsum("bns,bsd->bnd", powers.astype(value.dtype), value, preferred_element_type=logits.dtype)
        out.append((product / powers.sum(-1, keepdims=True)).astype(value.dtype))
    # Without the barriers the CPU compiler computes the sum that uses this element by element.
    return jax.lax.optimization_barrier(jnp.concatenate(jax.lax.optimization_barrier(out), axis=-1))


def _logits(query: Queries, key: Anchors) -> Float[Array, "b n s"]:
    wide = jnp.promote_types(query.dtype, jnp.float32)
    return jnp.einsum("bnd,bsd->bns", query, key, preferred_element_type=wide)
