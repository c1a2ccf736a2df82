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
        powers = jnp.exp(logits - logits.max(-1, keepdims=True))
        product = jnp.einsum("bns,bsd->bnd", powers.astype(value.dtype), value, preferred_element_type=logits.dtype)
        out.append((product / powers.sum(-1, keepdims=True)).astype(value.dtype))
    # Without the barriers the CPU compiler computes the sum that uses this element by element.
    return jax.lax.optimization_barrier(jnp.concatenate(jax.lax.optimization_barrier(out), axis=-1))


def attend_gradients(
    queries: list[Queries], keys: list[Anchors], values: list[Anchors], gradient: Float[Array, "b n c"]
) -> tuple[list[Queries], Float[Array, "b s c"], Float[Array, "b s c"]]:
    """Gradients of `attend`, with the softmax's gradient p∘(g Vᵀ − Σ g∘o) written out so that a CPU computes it fast:
    JAX's own takes half as long again (docs/performance-log.md).

    Args:
        queries: as in `attend`.
        keys: likewise.
        values: likewise.
        gradient: (B, N, C), of the result.

    Returns:
        The gradients of the queries (B, N, D) of every band, and of the keys and the values (B, S, C).
    """
    maps = [jax.nn.softmax(_logits(query, key), axis=-1) for query, key in zip(queries, keys, strict=True)]
    out = [jnp.einsum("bns,bsd->bnd", p.astype(v.dtype), v) for p, v in zip(maps, values, strict=True)]
    products = (gradient * jnp.concatenate(out, axis=-1)).astype(maps[0].dtype)
    shared = products.reshape(*products.shape[:-1], len(queries), -1).sum(-1)
    of_bands = jnp.split(gradient, len(queries), axis=-1)
    d_queries, d_keys, d_values = [], [], []
    for band, (query, k, v, p, g) in enumerate(zip(queries, keys, values, maps, of_bands, strict=True)):
        d_logits = (p * (_logits(g, v) - shared[:, :, band : band + 1])).astype(k.dtype)
        d_values.append(jnp.einsum("bnd,bns->bds", g, p.astype(g.dtype)))
        d_keys.append(jnp.einsum("bnd,bns->bds", query, d_logits))
        d_queries.append(jnp.einsum("bns,bsd->bnd", d_logits, k))
    d_key, d_value = (jnp.concatenate(parts, axis=1).swapaxes(1, 2) for parts in (d_keys, d_values))
    return d_queries, d_key, d_value


def _logits(query: Queries, key: Anchors) -> Float[Array, "b n s"]:
    wide = jnp.promote_types(query.dtype, jnp.float32)
    return jnp.einsum("bnd,bsd->bns", query, key, preferred_element_type=wide)
