"""Adaptive average pooling and the spatial pyramid pooling (SPP) made of it (section 3.2)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from multifocal_jax.ops.extent import Extent
from multifocal_jax.ops.wavelet import by_phase, haar_bands


def pooling_matrix(length: Any, bins: int, dtype: DTypeLike, positions: Any = None) -> Float[Array, "bins _"]:
    """Row i averages positions ⌊i·length/bins⌋ … ⌈(i+1)·length/bins⌉ − 1, as PyTorch's `AdaptiveAvgPool2d` does.

    Bins overlap where `bins` does not divide `length`. Built from iota, so that it is a constant where the length is
    known and still works where it is symbolic (`jax.export`), or traced and the first part of so many `positions`.
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
    pooled = spatial_pyramid_pool(x, (size,))
    return pooled.reshape(x.shape[0], size, size, x.shape[-1])


def spatial_pyramid_pool(
    x: Float[Array, "b h w c"], sizes: Sequence[int], extent: Extent | None = None
) -> Float[Array, "b s c"]:
    """SPP: adaptive average pooling to each of `sizes`, flattened and concatenated (section 3.2).

    Args:
        x: (B, H, W, C).
        sizes: grid sizes; 1, 3, 6, 8 give S = 1 + 9 + 36 + 64 = 110.
        extent: of the picture, where x is padded.

    Returns:
        (B, S, C), the grids in the order of `sizes`, each row by row.
    """
    b, h, w, c = x.shape
    height, width = extent or (h, w)
    rows = jnp.concatenate([pooling_matrix(height, size, x.dtype, h) for size in sizes])
    # The map as the right factor, so that no compiler transposes it: (bin, B, W, C).
    by_row = jax.lax.dot_general(rows, x, (((1,), (1,)), ((), ())))
    grids, start = [], 0
    for size in sizes:
        columns = pooling_matrix(width, size, x.dtype, w)
        grid = jnp.einsum("ibwc,jw->bijc", by_row[start : start + size], columns)
        grids.append(grid.reshape(b, size * size, c))
        start += size
    return jnp.concatenate(grids, axis=1)


class PooledPhases(NamedTuple):
    """The sums over a map that hold SPP(FRCB(·)) of every 1×1 convolution of it, see `pool_phases`.

    Attributes:
        bands: (B, S, 4, 2, 2, C): mean over a bin of the wavelet band's values at the bin's places (i, j).
        places: (S, 2, 2): share of the places (i, j) in a bin.
    """

    bands: Float[Array, "b s 4 2 2 c"]
    places: Float[Array, "s 2 2"]


def pool_phases(x: Float[Array, "b h w c"], sizes: Sequence[int], extent: Extent | None = None) -> PooledPhases:
    """Pool before projecting: what `pool_recalibrated` needs of a map, for any number of projections.

    1×1 convolution, FRCB and SPP are linear. The FRCB makes of the four pixels of a 2×2 block the values of four bands
    at the same four places, so the four pixels are pooled with the weights of the four places: 16 sums per bin, and
    neither the projected nor the re-calibrated map is made.

    Args:
        x: (B, H, W, C), H and W even.
        sizes: grid sizes; 1, 3, 6, 8 give S = 110.
        extent: of the picture, where x is padded; even.
    """
    b, h, w, c = x.shape
    height, width = extent or (h, w)
    blocks = x.reshape(b, h // 2, 2, w, c)
    by_row = [_by_place(pooling_matrix(height, size, x.dtype, h)) for size in sizes]
    # The map as the right factor, so that no compiler transposes it: (bin and place, B, phase, W, C).
    every_row = jnp.concatenate([rows.reshape(-1, h // 2) for rows in by_row])
    pooled_rows = jax.lax.dot_general(every_row, blocks, (((1,), (1,)), ((), ())))
    bands, places, start = [], [], 0
    for rows, size in zip(by_row, sizes, strict=True):
        columns = _by_place(pooling_matrix(width, size, x.dtype, w))
        of_size = pooled_rows[start : start + 2 * size].reshape(size, 2, b, 2, w // 2, 2, c)
        start += 2 * size
        sums = jnp.einsum("mibawdc,njw->adbmnijc", of_size, columns)
        sums = sums.reshape(2, 2, b, size * size, 2, 2, c)
        bands.append(jnp.stack(haar_bands(sums[0, 0], sums[1, 0], sums[0, 1], sums[1, 1]), axis=2))
        places.append(jnp.einsum("mih,njw->mnij", rows, columns).reshape(size * size, 2, 2))
    return PooledPhases(jnp.concatenate(bands, axis=1), jnp.concatenate(places))


def pool_recalibrated(
    pooled: PooledPhases, kernel: Float[Array, "c f"], bias: Float[Array, " f"]
) -> Float[Array, "b s f"]:
    """SPP(FRCB(x·kernel + bias)), the keys or values of a spatial CSSAB (section 3.2), from the pooled phases of x.

    Args:
        pooled: `pool_phases` of x (B, H, W, C).
        kernel: (C, F) of a 1×1 convolution, F a multiple of 4.
        bias: (F,).

    Returns:
        (B, S, F), equal to `spatial_pyramid_pool(recalibrate(x·kernel + bias), sizes)` up to rounding.
    """
    inputs, features = kernel.shape
    kernel, bias = by_phase(kernel).reshape(inputs, 2, 2, -1), by_phase(bias).reshape(2, 2, -1)
    out = jnp.einsum("bskijc,cijf->bskf", pooled.bands, kernel)
    # A constant is a constant twice as large in LL and nothing in the other bands.
    out = out.at[:, :, 0].add(2 * jnp.einsum("sij,ijf->sf", pooled.places, bias))
    return out.reshape(*out.shape[:2], features)


def _by_place(matrix: Float[Array, "bins length"]) -> Float[Array, "bins 2 length/2"]:
    """The weights of the even and of the odd positions."""
    bins, length = matrix.shape
    return matrix.reshape(bins, length // 2, 2).swapaxes(1, 2)
