"""Haar wavelet and the Feature Re-Calibrated Block built on it (section 3.2, figure 3)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from multifocal_jax.ops.resize import pixel_shuffle


def haar_dwt(
    x: Float[Array, "b h w c"],
) -> tuple[Float[Array, "b h//2 w//2 c"], ...]:
    """One level of the orthonormal 2-D Haar transform, in the sign convention of the field's PyTorch code.

    With x1 … x4 the four pixels of each 2×2 block (x1 top left, x2 below it, x3 right of it, x4 across), halved:
    LL = x1+x2+x3+x4, LH = −x1+x2−x3+x4, HL = −x1−x2+x3+x4, HH = x1−x2−x3+x4. PyWavelets' `dwt2(…, "haar")` gives
    cA = LL, cH = −LH, cV = −HL, cD = HH.

    Args:
        x: (B, H, W, C), H and W even.

    Returns:
        The bands LL, LH, HL, HH (the order of the paper's eqs. 4 and 5), each (B, H/2, W/2, C).
    """
    return haar_bands(x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2])


def haar_bands(x1: Array, x2: Array, x3: Array, x4: Array) -> tuple[Array, Array, Array, Array]:
    """The bands LL, LH, HL, HH of the four pixels of 2×2 blocks, see `haar_dwt`."""
    x1, x2, x3, x4 = x1 * 0.5, x2 * 0.5, x3 * 0.5, x4 * 0.5
    return x1 + x2 + x3 + x4, -x1 + x2 - x3 + x4, -x1 - x2 + x3 + x4, x1 - x2 - x3 + x4


def recalibrate(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """The FRCB: Haar bands, each pixel-shuffled back to full size, concatenated (section 3.2, figure 3).

    Args:
        x: (B, H, W, C), H and W even, C a multiple of 4.

    Returns:
        (B, H, W, C); band k of LL, LH, HL, HH fills channels k·C/4 … (k+1)·C/4 − 1.
    """
    return jnp.concatenate([pixel_shuffle(band, 2) for band in haar_dwt(x)], axis=-1)
