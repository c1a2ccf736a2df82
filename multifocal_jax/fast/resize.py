"""Bilinear up-sampling by rows and by columns, also of pictures in padded maps."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from multifocal_jax.fast.extent import Extent
from multifocal_jax.fast.rows import take_rows


def upsample_bilinear(
    x: Float[Array, "b h w c"], factor: int, extent: Extent | None = None
) -> Float[Array, "b h*{factor} w*{factor} c"]:
    """Bilinear up-sampling, equal to PyTorch's `interpolate(…, mode="bilinear", align_corners=False)`.

    Args:
        x: (B, H, W, C).
        factor: how many times larger each side becomes; 1 returns x.
        extent: of the picture in x, where x is padded.

    Returns:
        (B, factor·H, factor·W, C).
    """
    height, width = extent or (None, None)
    columns_up = upsample_columns(x, factor, width)
    return upsample_columns(columns_up.swapaxes(1, 2), factor, height).swapaxes(1, 2)


def upsample_columns(x: Float[Array, "b h w c"], factor: int, width: Any = None) -> Float[Array, "b h w*{factor} c"]:
    """`upsample_bilinear` along the width alone, of which the first `width` columns are the picture."""
    if factor == 1:
        return x
    b, h, w, c = x.shape
    left = jnp.concatenate([x[:, :, :1], x[:, :, :-1]], axis=2)
    right = jnp.concatenate([x[:, :, 1:], x[:, :, -1:]], axis=2)
    if width is not None:
        right = jnp.where(jnp.arange(w)[:, None] < width - 1, right, x)
    phases = []
    for phase in range(factor):
        offset = (phase + 0.5) / factor - 0.5
        phases.append((1 - abs(offset)) * x + abs(offset) * (left if offset < 0 else right))
    return jnp.stack(phases, axis=3).reshape(b, h, factor * w, c)


def upsample_rows(
    x: Float[Array, "b h w c"], factor: int, first: jax.Array, rows: int, height: Any = None
) -> Float[Array, "b {rows} w c"]:
    """Rows `first` … `first + rows − 1` of x up-sampled bilinearly along the height; zero outside the picture.

    The picture is all of x, or its first `height` rows.
    """
    height = x.shape[1] if height is None else height
    wanted = first + jnp.arange(rows)
    source = jnp.clip((wanted + 0.5) / factor - 0.5, 0, height - 1)
    used = min(x.shape[1], (2 * rows + factor - 3) // (2 * factor) + 3)  # neighbours on both sides included
    start = jnp.clip(first // factor - 1, 0, x.shape[1] - used)
    weights = jnp.maximum(0, 1 - jnp.abs(source[:, None] - (start + jnp.arange(used))[None]))
    weights = jnp.where((wanted >= 0) & (wanted < factor * height), weights.T, 0).T.astype(x.dtype)
    return jnp.einsum("rk,bkwc->brwc", weights, take_rows(x, start, used))
