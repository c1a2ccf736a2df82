"""Synthetic rain: streaks and a veil over clean photographs, in pure JAX.

The model is the paper's O = B + R (eq. 1), as it underlies the published synthetic sets: R is a sum of bright streaks,
equal in all three channels, and O is clipped to [0, 1]. An optional veil brightens the picture as a whole.

The rain is a stack of layers, one per distance; near layers hold longer and wider streaks than far ones. A layer is a
lattice of cells turned into the direction of the rain, and an integer hash of a cell's place decides whether it holds
a streak and which. So every pixel computes its own value from its coordinates: nothing is scattered or stored, the
cost is proportional to the area, and a pixel's rain does not depend on how much of the picture is rendered.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32

from multifocal_jax.data.errors import DataError

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class RainPreset:
    """What rain of one style looks like.

    Every picture draws its own value from each range, uniformly where nothing else is said. Lengths are in pixels of
    the picture that the rain is laid over, so a crop shows rain of the same scale as the whole. Streaks differ in
    length (to one half of their layer's longest), width (to 0.7 of the widest) and brightness (faint ones are many).
    """

    density: Range  # streaks per megapixel (10⁶ pixels), faint ones included, as far as there is room; log-uniform
    length: Range  # of the longest streaks, which are the nearest, in pixels; log-uniform
    width: Range  # of the widest streaks, measured at half their brightness, in pixels; log-uniform
    brightness: Range  # of the brightest streaks; 1 is white over black
    angle: Range  # of the main direction, in degrees from the vertical; positive falls towards the right
    directions: int = 1  # greatest number of directions; layers take turns in them
    spread: float = 0.0  # greatest difference between the main direction and the others, in degrees
    jitter: float = 1.5  # greatest difference between a streak and its layer's direction, in degrees
    far: Range = (0.4, 0.4)  # size of the farthest layer's streaks, as a part of the nearest one's
    blur: Range = (0.0, 0.0)  # width that defocus adds, dimming streaks in return, in pixels; below 0 counts as 0
    veil: Range = (0.0, 0.0)  # share of white haze, 0 (none) to 1 (nothing else is seen); below 0 counts as 0
    layers: int = 8  # number of distances; the cost is proportional to it


PRESETS: dict[str, RainPreset] = {
    "light": RainPreset(
        density=(1500.0, 4900.0),
        length=(80.0, 180.0),
        width=(2.6, 4.0),
        brightness=(0.25, 0.7),
        angle=(-35.0, 35.0),
        far=(0.45, 0.45),
        layers=6,
    ),
    "heavy": RainPreset(
        density=(10_000.0, 24_000.0),
        length=(60.0, 150.0),
        width=(2.6, 4.4),
        brightness=(0.7, 1.2),
        angle=(-40.0, 40.0),
        directions=3,
        spread=25.0,
        veil=(0.0, 0.06),
        layers=12,
    ),
    "varied": RainPreset(
        density=(1000.0, 30_000.0),
        length=(25.0, 180.0),
        width=(1.8, 5.0),
        brightness=(0.15, 1.1),
        angle=(-60.0, 60.0),
        directions=3,
        spread=30.0,
        jitter=2.5,
        far=(0.25, 0.8),
        blur=(-1.0, 3.0),
        veil=(-0.08, 0.16),
        layers=12,
    ),
}


_FINEST = 1.8  # pixels, least width of a layer's widest streaks; thinner ones would be rendered as dotted lines
_SLENDER = 6.0  # least ratio of length to width of a layer's longest streaks; stouter ones look like snow
_ODD = np.uint32(0x9E3779B9)  # 2³² over the golden ratio: spreads counters over the bits of a word
_PURPOSE = 0x7261696E  # "rain": keeps these keys apart from others that are made of the same seed and an index


def rain_key(seed: int, index: int | Int[Array, ""]) -> PRNGKeyArray:
    """The key of the rain over picture or crop `index` under `seed`; the same on every platform.

    Args:
        seed: of a data set or a training run.
        index: 0 to 2³² − 1; may be traced.
    """
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), _PURPOSE), index)


def add_rain(key: PRNGKeyArray, clean: Float[Array, "h w 3"], style: str) -> Float[Array, "h w 3"]:
    """Lay rain over a clean picture. Pure; may be jitted (with `style` static) and vmapped.

    Args:
        key: which rain, see `rain_key`; every key draws its own values from the style's ranges.
        clean: (H, W, 3), in [0, 1].
        style: name of a preset: "light", "heavy" or "varied".

    Returns:
        The rainy picture, (H, W, 3), in [0, 1] and nowhere darker than the clean one.

    Raises:
        DataError: there is no such style.
    """
    if style not in PRESETS:
        raise DataError(f"rain style {style!r} does not exist; allowed: {', '.join(PRESETS)}")
    streaks, veil = render_rain(key, clean.shape[0], clean.shape[1], PRESETS[style])
    return jnp.clip(clean + veil * (1 - clean) + streaks[..., None], 0, 1).astype(clean.dtype)


_add_rain = jax.jit(add_rain, static_argnames="style")


def rain_over(key: PRNGKeyArray, clean: np.ndarray, style: str, multiple: int = 1) -> np.ndarray:
    """A rainy picture of 8 bits.

    Args:
        key: which rain, see `rain_key`.
        clean: (H, W, 3), uint8.
        style: name of a preset.
        multiple: the picture is enlarged to multiples of so many pixels and cut again, which leaves its rain as it is,
            so that few sizes have to be compiled.

    Returns:
        (H, W, 3), uint8, rounded to the nearest.

    Raises:
        DataError: there is no such style.
    """
    height, width, _ = clean.shape
    padded = np.pad(clean, ((0, -height % multiple), (0, -width % multiple), (0, 0)))
    rainy = np.asarray(_add_rain(key, padded.astype(np.float32) / 255, style=style))
    return np.round(rainy[:height, :width] * 255).astype(np.uint8)


def render_rain(
    key: PRNGKeyArray, height: int, width: int, preset: RainPreset
) -> tuple[Float[Array, "h w"], Float[Array, ""]]:
    """What `add_rain` lays over a picture.

    A pixel depends on its place and the key alone: the rain of a larger picture holds that of a smaller one under the
    same key in its upper left corner.

    Args:
        key: which rain, see `rain_key`.
        height: H, in pixels.
        width: W, in pixels.
        preset: what it looks like.

    Returns:
        The streaks, float32 (H, W), 0 or more and not clipped at 1; and the veil's share, a scalar in [0, 1].
    """
    layers, veil = _draw_layers(key, preset)
    y = jnp.arange(height, dtype=jnp.float32)[:, None]
    x = jnp.arange(width, dtype=jnp.float32)[None, :]

    def add(total: Float[Array, "h w"], layer: _Layer) -> tuple[Float[Array, "h w"], None]:
        return total + _render_layer(y, x, layer), None

    streaks, _ = lax.scan(add, jnp.zeros((height, width), jnp.float32), layers)
    return streaks, veil


class _Layer(NamedTuple):
    """The streaks of one distance, float32 scalars; with a leading axis, all layers of a picture."""

    seed: UInt32[Array, "*layers"]  # of the hash
    angle: Float[Array, "*layers"]  # radians from the vertical
    slope: Float[Array, "*layers"]  # greatest tangent between a streak and that direction
    length: Float[Array, "*layers"]  # of the longest streaks and of a cell
    column: Float[Array, "*layers"]  # width of a cell
    radius: Float[Array, "*layers"]  # half the width of the widest streaks at their foot
    occupied: Float[Array, "*layers"]  # share of the cells that hold a streak
    brightness: Float[Array, "*layers"]  # of the brightest streaks


def _draw_layers(key: PRNGKeyArray, preset: RainPreset) -> tuple[_Layer, Float[Array, ""]]:
    """Draw one picture's layers and veil from the preset's ranges."""
    picture_key, layer_key, seed_key = jax.random.split(key, 3)
    chances = iter(jax.random.uniform(picture_key, (9,), jnp.float32))

    def uniform(bounds: Range) -> Float[Array, ""]:
        return bounds[0] + (bounds[1] - bounds[0]) * next(chances)

    def log_uniform(bounds: Range) -> Float[Array, ""]:
        return bounds[0] * (bounds[1] / bounds[0]) ** next(chances)

    density, longest, widest = log_uniform(preset.density), log_uniform(preset.length), log_uniform(preset.width)
    brightness, angle, far = uniform(preset.brightness), uniform(preset.angle), uniform(preset.far)
    blur, veil = jnp.maximum(uniform(preset.blur), 0), jnp.maximum(uniform(preset.veil), 0)
    directions = 1 + jnp.floor(preset.directions * next(chances))

    place, turn = jax.random.uniform(layer_key, (2, preset.layers), jnp.float32)
    number = jnp.arange(preset.layers, dtype=jnp.float32)
    direction = jnp.mod(number, directions).astype(jnp.int32)
    offset = jnp.where(direction == 0, 0.0, preset.spread * (2 * turn[direction] - 1))

    # A random place within its share of the distances keeps the lattices of two layers from being multiples.
    size = far ** ((number + place) / preset.layers)
    sharp = jnp.maximum(widest * size, _FINEST)
    width = jnp.hypot(sharp, blur)
    length = jnp.maximum(longest * size, _SLENDER * width)
    slope = jnp.full_like(size, jnp.tan(jnp.deg2rad(preset.jitter)))
    radius = width / (2 * math.sqrt(1 - math.sqrt(0.5)))  # the profile (1 − (d/r)²)² is one half at the root times r
    column = 2 * (radius + 0.5 * slope * length)  # a streak keeps within half a column of its centre

    # The same share of the cells in every layer: the smaller and farther streaks are, the more there are.
    occupied = jnp.minimum(density * 1e-6 / jnp.sum(1 / (column * length)), 1)
    layers = _Layer(
        seed=jax.random.bits(seed_key, (preset.layers,), jnp.uint32),
        angle=jnp.deg2rad(angle + offset),
        slope=slope,
        length=length,
        column=column,
        radius=radius,
        occupied=jnp.full_like(size, occupied),
        brightness=brightness * sharp / width,
    )
    return layers, veil


def _render_layer(y: Float[Array, "h 1"], x: Float[Array, "1 w"], layer: _Layer) -> Float[Array, "h w"]:
    """Brightness of one layer at the pixels (y, x)."""
    along = x * jnp.sin(layer.angle) + y * jnp.cos(layer.angle)
    across = x * jnp.cos(layer.angle) - y * jnp.sin(layer.angle)
    left = jnp.floor(across / layer.column - 0.5)
    # Centres lie anywhere in their column, so streaks of the two columns nearest to a pixel can reach it.
    both = _render_column(left, along, across, layer) + _render_column(left + 1, along, across, layer)
    return layer.brightness * both


def _render_column(
    column: Float[Array, "h w"], along: Float[Array, "h w"], across: Float[Array, "h w"], layer: _Layer
) -> Float[Array, "h w"]:
    """Relative brightness, 0 to 1, that the streaks of the given columns have at the given places."""
    column_bits = _mix(_to_bits(column) ^ layer.seed)
    shifted = along + layer.length * _fraction(column_bits, 0)  # cells of neighbouring columns do not line up
    row = jnp.floor(shifted / layer.length)
    first = _mix(column_bits + _to_bits(row))
    second = _mix(first + _ODD)
    third = _mix(second + _ODD)

    # The streak of this cell: ranks of 1 and more are empty cells, and most streaks are faint.
    peak = jnp.maximum(1 - _fraction(first, 0) / layer.occupied, 0) ** 2
    length = layer.length * (0.5 + 0.5 * _fraction(first, 1))
    radius = layer.radius * (0.7 + 0.3 * _fraction(first, 2))
    middle = (row + 0.5) * layer.length + (layer.length - length) * (_fraction(second, 0) - 0.5)
    centre = (column + _fraction(second, 1)) * layer.column
    slope = layer.slope * (2 * _fraction(second, 2) - 1)

    # Its brightness here: a smooth bump across, fading ends, and along it the ripple of an oscillating drop.
    distance = shifted - middle
    d = (across - centre - slope * distance) / radius
    t = distance / (0.5 * length)
    ripple = 0.7 + 0.3 * _wave((0.5 + 2 * _fraction(third, 0)) * t + _fraction(third, 1))
    return peak * ripple * jnp.maximum(1 - d * d, 0) ** 2 * jnp.maximum(1 - t * t, 0)


def _wave(turns: Float[Array, "..."]) -> Float[Array, "..."]:
    """A cosine-like wave of period 1 in [−1, 1], cheaper than the cosine."""
    ramp = 4 * jnp.abs(turns - jnp.floor(turns) - 0.5) - 1
    return ramp * (1.5 - 0.5 * ramp * ramp)


def _to_bits(integer: Float[Array, "..."]) -> UInt32[Array, "..."]:
    """Bits of whole numbers, negative ones too, spread out so that a sum or exclusive or of two seldom repeats."""
    return lax.bitcast_convert_type(integer.astype(jnp.int32), jnp.uint32) * _ODD


def _mix(bits: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """The integer hash "lowbias32" of C. Wellons: a flipped bit flips each of the others half the time."""
    bits = (bits ^ (bits >> 16)) * np.uint32(0x7FEB352D)
    bits = (bits ^ (bits >> 15)) * np.uint32(0x846CA68B)
    return bits ^ (bits >> 16)


def _fraction(bits: UInt32[Array, "..."], part: int) -> Float[Array, "..."]:
    """The first, second or third part (0, 1, 2; of 11, 11 and 10 bits) of a hash, as a number in [0, 1)."""
    width = (11, 11, 10)[part]
    number = (bits >> (11 * part)) & np.uint32(2**width - 1)
    return number.astype(jnp.float32) * 2.0**-width
