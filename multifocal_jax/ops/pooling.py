"""Adaptive average pooling and the spatial pyramid pooling (SPP) made of it (section 3.2)."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float


def pooling_matrix(length: Any, bins: int, dtype: DTypeLike) -> Float[Array, "bins length"]:
    """Row i averages positions ⌊i·length/bins⌋ … ⌈(i+1)·length/bins⌉ − 1, as PyTorch's `AdaptiveAvgPool2d` does.

    Bins overlap where `bins` does not divide `length`. Built from iota, so that it is a constant where the length is
    known and still works where it is symbolic (`jax.export`).
    """
    row = jnp.arange(bins)[:, None]
    column = jnp.arange(length)[None, :]
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
    pooled = spatial_pyramid_pool(x, (size,))
    return pooled.reshape(x.shape[0], size, size, x.shape[-1])


def spatial_pyramid_pool(x: Float[Array, "b h w c"], sizes: Sequence[int]) -> Float[Array, "b s c"]:
    """SPP: adaptive average pooling to each of `sizes`, flattened and concatenated (section 3.2).

    Args:
        x: (B, H, W, C).
        sizes: grid sizes; 1, 3, 6, 8 give S = 1 + 9 + 36 + 64 = 110.

    Returns:
        (B, S, C), the grids in the order of `sizes`, each row by row.
    """
    b, h, w, c = x.shape
    rows = jnp.concatenate([pooling_matrix(h, size, x.dtype) for size in sizes])
    by_row = jnp.einsum("ih,bhwc->biwc", rows, x)
    grids, start = [], 0
    for size in sizes:
        columns = pooling_matrix(w, size, x.dtype)
        grid = jnp.einsum("biwc,jw->bijc", by_row[:, start : start + size], columns)
        grids.append(grid.reshape(b, size * size, c))
        start += size
    return jnp.concatenate(grids, axis=1)
