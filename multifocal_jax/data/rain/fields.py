"""Smooth random fields over a picture: depth, curtains of rain, pools of light."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from multifocal_jax.data.rain.draws import Draws

_WAVES = 5


def smooth_field(
    draws: Draws,
    height: int,
    width: int,
    wavelength: tuple[float, float],
    angle: Float[Array, ""] | float = 0.0,
    spread: float = 180.0,
) -> Float[Array, "h w"]:
    """A sum of plane waves, a function of a pixel's position, so a larger picture's corner equals a smaller picture.

    Args:
        draws: random numbers that select the field.
        height: H, in pixels.
        width: W, in pixels.
        wavelength: shortest and longest, in pixels; log-uniform.
        angle: the direction in which the field varies, in degrees from the horizontal, anticlockwise.
        spread: greatest difference of a wave's direction from it, in degrees; 180 for any direction.

    Returns:
        float32 (H, W) of mean 0 and variance 1 over all draws.
    """
    length, turn, phase = draws.fractions(3, _WAVES)[..., None, :]
    number = 2 * jnp.pi / (wavelength[0] * (wavelength[1] / wavelength[0]) ** length)
    direction = jnp.deg2rad(angle + spread * (2 * turn - 1))
    rows = jnp.arange(height, dtype=jnp.float32)[:, None] * (-number * jnp.sin(direction)) + 2 * jnp.pi * phase
    columns = jnp.arange(width, dtype=jnp.float32)[:, None] * (number * jnp.cos(direction))
    # cos(r + c) = cos r cos c − sin r sin c: sines of a row and a column instead of every pixel's.
    left = jnp.concatenate([jnp.cos(rows), -jnp.sin(rows)], 1)
    right = jnp.concatenate([jnp.cos(columns), jnp.sin(columns)], 1)
    waves = jnp.einsum("yk,xk->yx", left, right, precision=lax.Precision.HIGHEST)
    return waves * (2 / _WAVES) ** 0.5
