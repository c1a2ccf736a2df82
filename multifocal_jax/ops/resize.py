"""Changes of size: pixel shuffle, bilinear up-sampling, the fixed pyramids of table 1."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from multifocal_jax.ops.extent import Extent, zero_beyond
from multifocal_jax.ops.rows import take_rows


def pixel_shuffle(x: Float[Array, "b h w c"], factor: int) -> Float[Array, "b h*{factor} w*{factor} c/{factor}**2"]:
    """Rearrange channels into space as PyTorch's `PixelShuffle` does (reference 17 of the paper).

    Output pixel (factor·h + i, factor·w + j) of channel c is input channel c·factor² + i·factor + j at (h, w).
    TensorFlow's `depth_to_space` orders the channels differently.

    Args:
        x: (B, H, W, C), C a multiple of factor².
        factor: how many times larger each side becomes.

    Returns:
        (B, factor·H, factor·W, C / factor²).
    """
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, c // factor**2, factor, factor)
    return x.transpose(0, 1, 4, 2, 5, 3).reshape(b, factor * h, factor * w, c // factor**2)


def by_phase(weights: Float[Array, "... c"]) -> Float[Array, "... c"]:
    """Order a layer's output channels so that `join_phases` does what a pixel shuffle by 2 would.

    Channel 4c + 2i + j goes to pixel (2h + i, 2w + j) of channel c (`pixel_shuffle`); here it becomes channel
    (2i + j)·C/4 + c.

    Args:
        weights: (…, C), kernel or bias.
    """
    channels = weights.shape[-1]
    return weights.reshape(*weights.shape[:-1], channels // 4, 4).swapaxes(-1, -2).reshape(weights.shape)


def join_phases(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c//4"]:
    """Lay four runs of channels out as blocks of 2×2 pixels: run 2i + j becomes pixel (2h + i, 2w + j).

    Args:
        x: (B, H, W, C), C a multiple of 4.

    Returns:
        (B, 2H, 2W, C / 4).
    """
    b, h, w, c = x.shape
    return x.reshape(b, h, w, 2, c // 2).swapaxes(2, 3).reshape(b, 2 * h, 2 * w, c // 4)


def split_phases(x: Float[Array, "b h w c"]) -> Float[Array, "b h//2 w//2 4*c"]:
    """The inverse of `join_phases`: (B, H, W, C), H and W even, to (B, H/2, W/2, 4C)."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2 * c).swapaxes(2, 3).reshape(b, h // 2, w // 2, 4 * c)


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
    weights = jnp.maximum(0, 1 - jnp.abs(source[:, None] - (start + jnp.arange(used))))
    weights = jnp.where((wanted >= 0) & (wanted < factor * height), weights.T, 0).T.astype(x.dtype)
    return jnp.einsum("rk,bkwc->brwc", weights, take_rows(x, start, used))


def gaussian_downsample(x: Float[Array, "b h w c"], extent: Extent | None = None) -> Float[Array, "b h//2 w//2 c"]:
    """Fixed pyramid of Model-1 (table 1): Gaussian 5×5, σ = 1, per channel, zero-padded by 2, every second pixel.

    Args:
        x: (B, H, W, C), H and W even.
        extent: of the picture, where x is padded.

    Returns:
        (B, H/2, W/2, C).
    """
    taps = jnp.exp(-0.5 * jnp.arange(-2, 3, dtype=jnp.promote_types(x.dtype, jnp.float32)) ** 2)
    taps = taps / taps.sum()
    channels = x.shape[-1]
    kernel = jnp.broadcast_to(jnp.outer(taps, taps)[:, :, None, None], (5, 5, 1, channels)).astype(x.dtype)
    return jax.lax.conv_general_dilated(
        zero_beyond(x, extent),
        kernel,
        window_strides=(2, 2),
        padding=((2, 2), (2, 2)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=channels,
    )


def average_downsample(x: Float[Array, "b h w c"]) -> Float[Array, "b h//2 w//2 c"]:
    """Fixed pyramid of Model-2 (table 1): the mean of each 2×2 block.

    Args:
        x: (B, H, W, C), H and W even.

    Returns:
        (B, H/2, W/2, C).
    """
    return (x[:, 0::2, 0::2] + x[:, 1::2, 0::2] + x[:, 0::2, 1::2] + x[:, 1::2, 1::2]) * 0.25
