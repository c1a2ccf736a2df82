"""A lattice of streaks of one distance, from which every pixel computes its own value from its coordinates.

A layer is a lattice of cells rotated into the direction of the rain; an integer hash of a cell's position decides
whether it contains a streak and which. Nothing is scattered or stored, the cost is proportional to the area, and a
pixel's rain does not depend on how much of the picture is rendered.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt32

FINEST = 1.8  # pixels, least width of a layer's widest streaks; thinner ones would be rendered as dotted lines
HALF = math.sqrt(1 - math.sqrt(0.5))  # the profile (1 − (d/r)²)² across a streak is one half at this part of r
_ODD = np.uint32(0x9E3779B9)  # 2³² over the golden ratio: spreads counters over the bits of a word


class Layer(NamedTuple):
    """The streaks of one distance, float32 scalars; with a leading axis, all layers of a picture."""

    seed: UInt32[Array, "*layers"]  # of the hash
    angle: Float[Array, "*layers"]  # radians from the vertical
    slope: Float[Array, "*layers"]  # greatest tangent between a streak and that direction
    length: Float[Array, "*layers"]  # of the longest streaks and of a cell
    column: Float[Array, "*layers"]  # width of a cell
    radius: Float[Array, "*layers"]  # half the width of the widest streaks at their foot
    occupied: Float[Array, "*layers"]  # share of the cells that hold a streak
    brightness: Float[Array, "*layers"]  # of the brightest streaks


def render_layer(
    y: Float[Array, "h 1"], x: Float[Array, "1 w"], layer: Layer, drops: bool = False
) -> Float[Array, "h w"]:
    """Brightness of one layer at the pixels (y, x).

    Args:
        y: rows.
        x: columns.
        layer: its parameters; `occupied` may vary slowly from pixel to pixel, (H, W).
        drops: streaks are the paths of round drops, down to the drop alone, instead of spindles.
    """
    along = x * jnp.sin(layer.angle) + y * jnp.cos(layer.angle)
    across = x * jnp.cos(layer.angle) - y * jnp.sin(layer.angle)
    left = jnp.floor(across / layer.column - 0.5)
    # Centres lie anywhere in their column, so streaks of the two columns nearest to a pixel can reach it.
    near, next_to_it = (_render_column(column, along, across, layer, drops) for column in (left, left + 1))
    return layer.brightness * (near + next_to_it)


def _render_column(
    column: Float[Array, "h w"],
    along: Float[Array, "h w"],
    across: Float[Array, "h w"],
    layer: Layer,
    drops: bool,
) -> Float[Array, "h w"]:
    """Relative brightness, 0 to 1, of the given columns' streaks at the given positions."""
    column_bits = mix(to_bits(column) ^ layer.seed)
    shifted = along + layer.length * fraction(column_bits, 0)  # cells of neighbouring columns do not line up
    row = jnp.floor(shifted / layer.length)
    first = mix(column_bits + to_bits(row))
    second = mix(first + _ODD)
    third = mix(second + _ODD)

    # The streak of this cell: ranks of 1 and more are empty cells, and most streaks are faint.
    peak = jnp.maximum(1 - fraction(first, 0) / layer.occupied, 0)
    if not drops:
        peak = peak**2
    length = layer.length * (0.5 + 0.5 * fraction(first, 1))
    radius = layer.radius * (0.7 + 0.3 * fraction(first, 2))
    middle = (row + 0.5) * layer.length + (layer.length - length) * (fraction(second, 0) - 0.5)
    centre = (column + fraction(second, 1)) * layer.column
    slope = layer.slope * (2 * fraction(second, 2) - 1)

    # Its brightness here: a smooth bump across, fading ends, and along it the ripple of an oscillating drop.
    distance = shifted - middle
    d = (across - centre - slope * distance) / radius
    t = distance / (0.5 * length)
    ripple = 0.7 + 0.3 * _wave((0.5 + 2 * fraction(third, 0)) * t + fraction(third, 1))
    if drops:
        half = jnp.maximum(0.5 * length - radius, 0)  # of the path of the drop's centre; beyond, the drop's own shape
        beyond = jnp.minimum(jnp.maximum(jnp.abs(distance) - half, 0), 0.5 * layer.length - half) / radius
        fading = jnp.maximum(1 - 0.6 * t * t, 0)
        return peak * ripple * fading * jnp.maximum(1 - d * d - beyond * beyond, 0) ** 2
    return peak * ripple * jnp.maximum(1 - d * d, 0) ** 2 * jnp.maximum(1 - t * t, 0)


def _wave(turns: Float[Array, "..."]) -> Float[Array, "..."]:
    """A cosine-like wave of period 1 in [−1, 1], cheaper than the cosine."""
    ramp = 4 * jnp.abs(turns - jnp.floor(turns) - 0.5) - 1
    return ramp * (1.5 - 0.5 * ramp * ramp)


def to_bits(integer: Float[Array, "..."]) -> UInt32[Array, "..."]:
    """Bits of whole numbers, negative ones too, spread out so that a sum or exclusive or of two seldom repeats."""
    return lax.bitcast_convert_type(integer.astype(jnp.int32), jnp.uint32) * _ODD


def mix(bits: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """The integer hash "lowbias32" of C. Wellons: a flipped bit flips each of the others half the time."""
    bits = (bits ^ (bits >> 16)) * np.uint32(0x7FEB352D)
    bits = (bits ^ (bits >> 15)) * np.uint32(0x846CA68B)
    return bits ^ (bits >> 16)


def fraction(bits: UInt32[Array, "..."], part: int) -> Float[Array, "..."]:
    """The first, second or third part (0, 1, 2; of 11, 11 and 10 bits) of a hash, as a number in [0, 1)."""
    width = (11, 11, 10)[part]
    number = (bits >> (11 * part)) & np.uint32(2**width - 1)
    return number.astype(jnp.float32) * 2.0**-width
