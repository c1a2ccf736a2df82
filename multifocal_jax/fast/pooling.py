"""Spatial pyramid pooling (SPP, section 3.2) in few products, also of a map before projection and re-calibration."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from multifocal_jax.fast.extent import Extent
from multifocal_jax.fast.phases import by_phase
from multifocal_jax.ops import haar_bands, pooling_matrix


def spatial_pyramid_pool(
    x: Float[Array, "b h w c"], sizes: Sequence[int], extent: Extent | None = None
) -> Float[Array, "b s c"]:
    """`ops.spatial_pyramid_pool`, in one product along the rows and one along the columns for all sizes.

    Args:
        x: (B, H, W, C).
        sizes: grid sizes; 1, 3, 6, 8 give S = 1 + 9 + 36 + 64 = 110.
        extent: of the picture, where x is padded.

    Returns:
        (B, S, C), the grids in the order of `sizes`, each row by row.
    """
    _, h, w, _ = x.shape
    height, width = extent or (h, w)
    rows = jnp.concatenate([pooling_matrix(height, size, x.dtype, h) for size in sizes])
    # The map as the right factor, so that no compiler transposes it: (bin, B, W, C).
    by_row = jax.lax.dot_general(rows, x, (((1,), (1,)), ((), ())))
    columns = jnp.concatenate([pooling_matrix(width, size, x.dtype, w) for size in sizes])
    return _pick_grids(jnp.einsum("mbwc,nw->bmnc", by_row, columns), 1, sizes)


def _pick_grids(x: Array, axis: int, sizes: Sequence[int]) -> Array:
    """Select the bins of every size, in one axis, from those of all sizes along rows (`axis`) and columns (the next).

    Bins whose rows and columns belong to different sizes are dropped. These are two thirds, and still one product for
    all sizes takes no longer than a small one for each (docs/performance-log.md).
    """
    grids, start = [], 0
    for size in sizes:
        grid = jax.lax.slice_in_dim(x, start, start + size, axis=axis)
        grid = jax.lax.slice_in_dim(grid, start, start + size, axis=axis + 1)
        grids.append(grid.reshape(*x.shape[:axis], size * size, *x.shape[axis + 2 :]))
        start += size
    return jnp.concatenate(grids, axis)


class PooledPhases(NamedTuple):
    """The sums over a map that determine SPP(FRCB(·)) of any 1×1 convolution of it, see `pool_phases`.

    Attributes:
        bands: (B, S, 4, 2, 2, C): mean over a bin of the wavelet band's values at positions (i, j) of its blocks.
        places: (S, 2, 2): share of the positions (i, j) in a bin.
    """

    bands: Float[Array, "b s 4 2 2 c"]
    places: Float[Array, "s 2 2"]


def pool_phases(x: Float[Array, "b h w c"], sizes: Sequence[int], extent: Extent | None = None) -> PooledPhases:
    """Pool before projecting: the input of `pool_recalibrated`, for any number of projections of a map.

    1×1 convolution, FRCB and SPP are linear. The FRCB turns the four pixels of a 2×2 block into the values of four
    bands at the same four positions, so the four pixels are pooled with the weights of the four positions: 16 sums per
    bin, and neither the projected nor the re-calibrated map is stored.

    Args:
        x: (B, H, W, C), H and W even.
        sizes: grid sizes; 1, 3, 6, 8 give S = 110.
        extent: of the picture, where x is padded; even.
    """
    b, h, w, c = x.shape
    height, width = extent or (h, w)
    blocks = x.reshape(b, h // 2, 2, w, c)
    wide = jnp.promote_types(x.dtype, jnp.float32)  # as the bands are small differences between means
    rows, columns = (
        _by_place(jnp.concatenate([pooling_matrix(length, size, wide, padded) for size in sizes]))
        for length, padded in ((height, h), (width, w))
    )
    # The map as the right factor, so that no compiler transposes it: (bin and place, B, phase, W, C).
    narrow = rows.reshape(-1, h // 2).astype(x.dtype)
    pooled_rows = jax.lax.dot_general(narrow, blocks, (((1,), (1,)), ((), ())), preferred_element_type=wide)
    pooled_rows = pooled_rows.reshape(len(rows), 2, b, 2, w // 2, 2, c)
    sums = _pick_grids(jnp.einsum("mibawdc,njw->adbmnijc", pooled_rows, columns), 3, sizes)
    bands = jnp.stack(haar_bands(sums[0, 0], sums[1, 0], sums[0, 1], sums[1, 1]), axis=2)
    return PooledPhases(bands, _pick_grids(jnp.einsum("mih,njw->mnij", rows, columns), 0, sizes))


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
    (inputs, features), dtype = kernel.shape, kernel.dtype
    kernel, bias = (value.astype(pooled.bands.dtype) for value in (kernel, bias))
    kernel, bias = by_phase(kernel).reshape(inputs, 2, 2, -1), by_phase(bias).reshape(2, 2, -1)
    out = jnp.einsum("bskijc,cijf->bskf", pooled.bands, kernel)
    # A constant is a constant twice as large in LL and nothing in the other bands.
    out = out.at[:, :, 0].add(2 * jnp.einsum("sij,ijf->sf", pooled.places, bias))
    return out.reshape(*out.shape[:2], features).astype(dtype)


def _by_place(matrix: Float[Array, "bins length"]) -> Float[Array, "bins 2 length/2"]:
    """The weights of the even and of the odd positions."""
    bins, length = matrix.shape
    return matrix.reshape(bins, length // 2, 2).swapaxes(1, 2)
