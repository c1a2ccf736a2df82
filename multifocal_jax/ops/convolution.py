"""Convolution with PyTorch's padding."""

import jax
from jaxtyping import Array, Float


def convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c f"], bias: Float[Array, " f"], stride: int = 1
) -> Float[Array, "b h2 w2 f"]:
    """K * x + bias, zero-padded by k // 2 on every side, as PyTorch's `Conv2d(padding=k // 2)`.

    Flax's `SAME` would pad (0, 1) at stride 2 and even sizes.

    Args:
        x: (B, H, W, C).
        kernel: (k, k, C, F), k odd.
        bias: (F,).
        stride: 1 or 2; at 2, eq. 2's step from a scale to the next smaller one.

    Returns:
        (B, ⌈H / stride⌉, ⌈W / stride⌉, F).
    """
    padding = kernel.shape[0] // 2
    convolved = jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return convolved + bias[None, None, None]
