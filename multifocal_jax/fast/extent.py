"""Pictures in padded maps, so that one compiled program takes many sizes.

A map of a fixed shape holds the picture at its top left; how large the picture is, is known only when the program runs.
An operation computes for the picture what it would without the padding. Its values in the padding are meaningless, but
finite as long as the padding is.
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
    """Zero the rows of a map, from `first_row` on, below and right of the picture; unchanged without an extent."""
    if extent is None:
        return x
    rows, columns = first_row + jnp.arange(x.shape[1]), jnp.arange(x.shape[2])
    inside = (rows < extent.height)[:, None] & (columns < extent.width)[None]
    return jnp.where(inside[:, :, None], x, 0)
