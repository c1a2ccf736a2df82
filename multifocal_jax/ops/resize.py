"""Up-sampling: pixel shuffle and bilinear interpolation."""

import jax
from jaxtyping import Array, Float


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


def upsample_bilinear(x: Float[Array, "b h w c"], factor: int) -> Float[Array, "b h*{factor} w*{factor} c"]:
    """Bilinear up-sampling, equal to PyTorch's `interpolate(…, mode="bilinear", align_corners=False)`.

    Args:
        x: (B, H, W, C).
        factor: how many times larger each side becomes; 1 returns x.

    Returns:
        (B, factor·H, factor·W, C).
    """
    b, h, w, c = x.shape
    return jax.image.resize(x, (b, factor * h, factor * w, c), "linear")
