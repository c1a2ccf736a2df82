"""Attention to a few anchors in every wavelet band with cuDNN, for NVIDIA GPUs; equivalent to `band_attention`.

cuDNN reads a query once and writes its result once; the S numbers per query between the two products never leave the
chip. The four bands are its heads.
"""

from functools import cache

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

Queries = Float[Array, "b n d"]
Anchors = Float[Array, "b s d"]


@cache
def serves(dtype: DTypeLike, depth: int) -> bool:
    """Whether cuDNN supports attention of this dtype and depth (numbers per query) on this process's NVIDIA GPU.

    It supports float16 and bfloat16 and depths in multiples of 8, but not on every GPU and in every version.
    """
    query, anchors = jax.ShapeDtypeStruct((1, 64, depth), dtype), jax.ShapeDtypeStruct((1, 64, depth), dtype)
    try:
        jax.eval_shape(lambda *bands: jax.vjp(attend, *bands)[1](query), [query], [anchors], [anchors])
    except (RuntimeError, NotImplementedError):  # no cuDNN, or an unsupported dtype, depth or GPU
        return False
    return True


def attend(queries: list[Queries], keys: list[Anchors], values: list[Anchors]) -> Float[Array, "b n c"]:
    """`band_attention.attend` where `serves` says so.

    Args:
        queries: (B, N, D) of every band.
        keys: (B, S, D), likewise.
        values: (B, S, D), likewise.

    Returns:
        (B, N, C), the bands one after the other.
    """
    query, key, value = (jnp.stack(bands, axis=2) for bands in (queries, keys, values))
    out = jax.nn.dot_product_attention(query, key, value, scale=1.0, implementation="cudnn")
    return out.reshape(*out.shape[:2], -1)
