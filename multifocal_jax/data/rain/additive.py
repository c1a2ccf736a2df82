"""The styles that add rain, O = B + R (the paper's eq. 1), as the published synthetic sets do.

R is a sum of bright streaks, equal in all three channels; an optional veil brightens the picture as a whole. R consists
of layers, one per distance; near layers have longer and wider streaks than far ones.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from multifocal_jax.data.rain.streaks import FINEST, HALF, Layer, render_layer

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class RainPreset:
    """Parameters of a style of rain.

    Every picture draws its own value from each range, uniformly unless stated otherwise. Lengths are in pixels of the
    picture, so a crop has rain of the same scale as the whole picture. Streaks differ in length (down to half of their
    layer's longest), width (down to 0.7 of the widest) and brightness (most are faint).
    """

    density: Range  # streaks per megapixel (10⁶ pixels), including faint ones, up to one per cell; log-uniform
    length: Range  # of the longest streaks, which are the nearest, in pixels; log-uniform
    width: Range  # of the widest streaks, measured at half their brightness, in pixels; log-uniform
    brightness: Range  # of the brightest streaks; 1 is white over black
    angle: Range  # of the main direction, in degrees from the vertical; positive falls towards the right
    directions: int = 1  # greatest number of directions, over which the layers alternate
    spread: float = 0.0  # greatest difference between the main direction and the others, in degrees
    jitter: float = 1.5  # greatest difference between a streak and its layer's direction, in degrees
    far: Range = (0.4, 0.4)  # size of the farthest layer's streaks, relative to the nearest layer's
    blur: Range = (0.0, 0.0)  # width that defocus adds, dimming streaks in return, in pixels; below 0 counts as 0
    veil: Range = (0.0, 0.0)  # share of white haze, 0 (none) to 1 (nothing else is visible); below 0 counts as 0
    layers: int = 8  # number of distances; the cost is proportional to it


PRESETS: dict[Literal["light", "heavy", "varied"], RainPreset] = {
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

_SLENDER = 6.0  # least ratio of length to width of a layer's longest streaks; stouter ones look like snow


def render_rain(
    key: PRNGKeyArray, height: int, width: int, preset: RainPreset
) -> tuple[Float[Array, "h w"], Float[Array, ""]]:
    """The streaks and the veil of a preset.

    A pixel depends only on its position and the key: with the same key, the upper left corner of a larger picture has
    the rain of a smaller one.

    Args:
        key: selects the rain, see `rain_key`.
        height: H, in pixels.
        width: W, in pixels.
        preset: the style.

    Returns:
        The streaks, float32 (H, W), 0 or more and not clipped at 1; and the veil's share, a scalar in [0, 1].
    """
    layers, veil = _draw_layers(key, preset)
    y = jnp.arange(height, dtype=jnp.float32)[:, None]
    x = jnp.arange(width, dtype=jnp.float32)[None, :]

    def add(total: Float[Array, "h w"], layer: Layer) -> tuple[Float[Array, "h w"], None]:
        return total + render_layer(y, x, layer), None

    streaks, _ = lax.scan(add, jnp.zeros((height, width), jnp.float32), layers)
    return streaks, veil


def _draw_layers(key: PRNGKeyArray, preset: RainPreset) -> tuple[Layer, Float[Array, ""]]:
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
    sharp = jnp.maximum(widest * size, FINEST)
    width = jnp.hypot(sharp, blur)
    length = jnp.maximum(longest * size, _SLENDER * width)
    slope = jnp.full_like(size, jnp.tan(jnp.deg2rad(preset.jitter)))
    radius = width / (2 * HALF)
    column = 2 * (radius + 0.5 * slope * length)  # a streak keeps within half a column of its centre

    # The same share of the cells in every layer: the smaller and farther streaks are, the more there are.
    occupied = jnp.minimum(density * 1e-6 / jnp.sum(1 / (column * length)), 1)
    layers = Layer(
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
