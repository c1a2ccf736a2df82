"""The fixed pyramids of table 1, which replace eq. 2's learned filter."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def gaussian_downsample(x: Float[Array, "b h w c"]) -> Float[Array, "b h//2 w//2 c"]:
    """Fixed pyramid of Model-1 (table 1): Gaussian 5×5, σ = 1, per channel, zero-padded by 2, every second pixel.

    Args:
        x: (B, H, W, C), H and W even.

    Returns:
        (B, H/2, W/2, C).
    """
    taps = jnp.exp(-0.5 * jnp.arange(-2, 3, dtype=jnp.promote_types(x.dtype, jnp.float32)) ** 2)
    taps = taps / taps.sum()
    channels = x.shape[-1]
    kernel = jnp.broadcast_to(jnp.outer(taps, taps)[:, :, None, None], (5, 5, 1, channels)).astype(x.dtype)
    return jax.lax.conv_general_dilated(
        x,
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
