"""Adaptive average pooling and the spatial pyramid pooling (SPP) made of it (section 3.2)."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float


def pooling_matrix(length: Any, bins: int, dtype: DTypeLike, positions: Any = None) -> Float[Array, "{bins} _"]:
    """Row i averages positions ⌊i·length/bins⌋ … ⌈(i+1)·length/bins⌉ − 1, as PyTorch's `AdaptiveAvgPool2d` does.

    Bins overlap where `bins` does not divide `length`. Built from iota, so that it is a constant if the length is known
    and also works if the length is symbolic (`jax.export`) or traced.

    Args:
        length: number of positions that are averaged.
        bins: number of rows.
        dtype: of the matrix.
        positions: number of columns, zero from `length` on; None means `length`.
    """
    row = jnp.arange(bins)[:, None]
    column = jnp.arange(length if positions is None else positions)[None, :]
    start, stop = row * length // bins, -((row + 1) * -length // bins)
    inside = (column >= start) & (column < stop)
    return inside.astype(dtype) / (stop - start).astype(dtype)


def adaptive_average_pool(x: Float[Array, "b h w c"], size: int) -> Float[Array, "b {size} {size} c"]:
    """PyTorch's `AdaptiveAvgPool2d(size)` at any height and width.

    Args:
        x: (B, H, W, C).
        size: output height and width; may exceed H or W.

    Returns:
        (B, size, size, C).
    """
    _, h, w, _ = x.shape
    rows, columns = pooling_matrix(h, size, x.dtype), pooling_matrix(w, size, x.dtype)
    return jnp.einsum("mh,bhwc,nw->bmnc", rows, x, columns)


def spatial_pyramid_pool(x: Float[Array, "b h w c"], sizes: Sequence[int]) -> Float[Array, "b s c"]:
    """SPP: adaptive average pooling to each of `sizes`, flattened and concatenated (section 3.2).

    Args:
        x: (B, H, W, C).
        sizes: grid sizes; 1, 3, 6, 8 give S = 1 + 9 + 36 + 64 = 110.

    Returns:
        (B, S, C), the grids in the order of `sizes`, each row by row.
    """
    b, _, _, c = x.shape
    return jnp.concatenate([adaptive_average_pool(x, size).reshape(b, size**2, c) for size in sizes], axis=1)
