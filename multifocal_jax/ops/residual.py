"""The network's input and output: rainy pictures, and their background."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def background(observed: Float[Array, "b h w 3"], residual: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """B = O − R: the clean background of O = B + R (eq. 1).

    Args:
        observed: O, (B, H, W, 3), the rainy pictures.
        residual: R, (B, H, W, 3), the rain.

    Returns:
        (B, H, W, 3) in the dtype of `observed`.
    """
    return observed - residual.astype(observed.dtype)


def check_images(rainy: Array, multiple: int) -> None:
    """Require floats of the shape (B, H, W, 3) with H and W multiples of `multiple`.

    Raises:
        ValueError: any other shape or dtype; the message gives it and what is allowed.
    """
    shape = rainy.shape
    if len(shape) != 4 or shape[-1] != 3 or shape[1] % multiple or shape[2] % multiple:
        raise ValueError(
            f"image batch has shape {shape}; the network takes (batch, height, width, 3) with height and width "
            f"multiples of {multiple}: pad it, or use multifocal_jax.load(), which does"
        )
    if not jnp.issubdtype(rainy.dtype, jnp.floating):
        raise ValueError(
            f"image batch is {rainy.dtype}; the network takes floats in [0, 1]: scale it, or use "
            "multifocal_jax.load(), which does"
        )
