"""Working on some rows of a picture at a time, so that what is computed in between never leaves the cache."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from multifocal_jax.fast.extent import Extent, zero_beyond

Maps = TypeVar("Maps")

# Pixels of a strip. A core's cache holds the 110 float32 logits per pixel of one band for so many; an accelerator wants
# large products and only has to be kept from running out of memory.
CPU_STRIP = 8192
STRIP = 1 << 20
# Numbers of a map that a CPU convolves by strips, and of a strip, 16 MB of float32: what is allocated for a strip is
# memory that the process has used before, whereas Linux clears every page that is allocated for a map.
_LARGE = 1 << 23
_LARGE_STRIP = 1 << 22


def strip_height(height: int, pixels_per_row: int, strip: int, multiple: int = 1) -> int:
    """Rows of strips of about `strip` pixels: a multiple of `multiple`, at most `height`."""
    return min(height, max(multiple, strip // pixels_per_row // multiple * multiple))


def whole_strip_height(height: int, pixels_per_row: int, strip: int, multiple: int = 1) -> int:
    """As `strip_height`, for strips that must not overlap: a divisor of `height`."""
    fitting = [rows for rows in range(multiple, height + 1, multiple) if height % rows == 0]
    return min(fitting, key=lambda rows: max(rows * pixels_per_row / strip, strip / (rows * pixels_per_row)))


def is_large(x: Shaped[Array, "b h w c"], channels: int) -> bool:
    """Whether a map of this shape, but with so many channels, is worth strips on a CPU."""
    return math.prod(x.shape[:3]) * channels >= _LARGE


def large_strip_height(height: int, numbers_per_row: int, multiple: int = 1) -> int:
    """Rows of the strips of a large map, of which a row has so many numbers: a divisor of `height` if one is near."""
    rows = whole_strip_height(height, numbers_per_row, _LARGE_STRIP, multiple)
    if 2 * rows * numbers_per_row >= _LARGE_STRIP:
        return rows
    return strip_height(height, numbers_per_row, _LARGE_STRIP, multiple)


def map_rows(body: Callable[[jax.Array, Maps], Maps], x: Maps, rows: int) -> Maps:
    """Replace x strip by strip by `body(first, strip)`, the strip being rows `first` … `first + rows − 1` of x.

    In place, where x is not needed any more. Where `rows` does not divide H the last strip reaches back into rows that
    are done already; what `body` makes of them is thrown away.

    Args:
        body: of (first, strip); its result has the strip's shapes and dtypes.
        x: a map (B, H, W, C), or several of the same height.
        rows: of a strip.
    """
    height = jax.tree.leaves(x)[0].shape[1]
    if rows == height:
        return body(jnp.int32(0), x)

    def step(index: jax.Array, x: Maps) -> Maps:
        first = jnp.minimum(index * rows, height - rows)
        before = jax.tree.map(lambda x: take_rows(x, first, rows), x)
        after = body(first, before)
        if height % rows:
            is_new = (first + jnp.arange(rows) >= index * rows)[:, None, None]
            after = jax.tree.map(lambda new, old: jnp.where(is_new, new, old), after, before)
        return jax.tree.map(lambda x, new: jax.lax.dynamic_update_slice_in_dim(x, new, first, axis=1), x, after)

    return jax.lax.fori_loop(0, -(-height // rows), step, x)


def map_rows_around(
    body: Callable[[jax.Array, jax.Array], jax.Array], x: Float[Array, "b h w c"], rows: int, beyond: int
) -> Float[Array, "b h w c"]:
    """As `map_rows`, by `body(first, window)`, where the window holds `beyond` rows more on both sides of the strip.

    They are zero outside the map. The rows above are kept aside before they are replaced.

    Args:
        body: of (first, window); its result is the new strip.
        x: a map (B, H, W, C), H a multiple of `beyond`.
        rows: of a strip, a multiple of `beyond`; the last one may have fewer.
        beyond: rows above and below.
    """
    height = x.shape[1]

    def step(rows: int, first: Any, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, above = state

        def window_above(below: Callable[[], jax.Array]) -> jax.Array:
            return jnp.concatenate([above, take_rows(x, first, rows), below()], axis=1)

        # Branches, as the compiler would fuse anything else with what uses it, and copy all of x to read it twice.
        window = jax.lax.cond(
            first + rows < height,
            lambda: window_above(lambda: take_rows(x, first + rows, beyond)),
            lambda: window_above(lambda: jnp.zeros_like(above)),
        )
        after = jax.lax.dynamic_update_slice_in_dim(x, body(first, window), first, axis=1)
        return after, window[:, -2 * beyond : -beyond]

    whole, rest = divmod(height, rows)
    state = x, jnp.zeros_like(x[:, :beyond])
    state = jax.lax.fori_loop(0, whole, lambda index, state: step(rows, index * rows, state), state)
    return (step(rest, jnp.int32(height - rest), state) if rest else state)[0]


def take_rows(x: Shaped[Array, "b h w c"], first: jax.Array, rows: int) -> Shaped[Array, "b {rows} w c"]:
    """Rows `first` … `first + rows − 1`."""
    return jax.lax.dynamic_slice_in_dim(x, first, rows, axis=1)


def take_rows_around(
    x: Float[Array, "b h w c"], first: jax.Array, rows: int, extent: Extent | None = None
) -> Float[Array, "b {rows}+2 w c"]:
    """Rows `first` − 1 … `first + rows`, zero outside the picture: all of x, or `extent`."""
    height = x.shape[1]
    above, below = take_rows(x, jnp.maximum(first - 1, 0), 1), take_rows(x, jnp.minimum(first + rows, height - 1), 1)
    above, below = jnp.where(first > 0, above, 0), jnp.where(first + rows < height, below, 0)
    return zero_beyond(jnp.concatenate([above, take_rows(x, first, rows), below], axis=1), extent, first - 1)
