"""Pictures in padded maps, so that one compiled program takes many sizes.

A map of a fixed shape holds the picture at its top left; how large the picture is, is known only when the program runs.
What an operation makes of the picture is what it makes of it without the padding. What it makes of the padding means
nothing, but is finite as long as the padding is.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Extent(NamedTuple):
    """Height and width of the picture in a padded map: int32 scalars, usually traced."""

    height: Any
    width: Any

    def shrunk(self, factor: int) -> "Extent":
        """The extent in a map `factor` times smaller."""
        return Extent(self.height // factor, self.width // factor)


def zero_beyond(
    x: Float[Array, "b h w c"], extent: Extent | None, first_row: int | jax.Array = 0
) -> Float[Array, "b h w c"]:
    """The rows of a map from `first_row` on with zeros below and right of the picture; as they are without extent."""
    if extent is None:
        return x
    rows, columns = first_row + jnp.arange(x.shape[1]), jnp.arange(x.shape[2])
    inside = (rows < extent.height)[:, None] & (columns < extent.width)
    return jnp.where(inside[:, :, None], x, 0)
