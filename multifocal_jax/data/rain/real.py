"""The style "real": rain that blends with the scene behind it, photographed by a camera.

O = B·(1 − α) + α·A. While the shutter is open, a streak blocks a share α of the light of the scene B and shows that of
the sky or of a lamp, A, instead: it is bright over dark ground, and faint or dark over a bright sky. Streaks of all
distances cover the picture one after the other, so 1 − α is a product over the layers; far ones, which are small and
many, appear only where the scene behind is even farther away. Beyond them, a veil remains. `camera` then photographs
the scene with and without the rain.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from multifocal_jax.data.rain.camera import draw_camera, photograph
from multifocal_jax.data.rain.draws import Draws
from multifocal_jax.data.rain.fields import smooth_field
from multifocal_jax.data.rain.streaks import FINEST, HALF, Layer, render_layer

_LAYERS = 10
_LONGEST = 250.0  # pixels
_DRY = 0.1  # share of the pictures without rain
_NIGHT = 0.2  # share of the pictures taken at night


class _Rain(NamedTuple):
    """One picture's draws, float32 scalars unless stated otherwise."""

    layers: Layer
    distance: Float[Array, "layers"]  # of the layers, 0 at the lens to 1 at the horizon
    angle: Float[Array, ""]  # of the main direction, in degrees from the vertical
    depth: Float[Array, ""]  # of the scene, on the same scale, and
    relief: Float[Array, ""]  # its standard deviation, before it is clipped
    curtains: Float[Array, ""]  # 0 (even rain) to 1 (none between the curtains)
    veil: Float[Array, ""]  # optical depth of the rain in front of the horizon


class _Light(NamedTuple):
    """The light of one picture."""

    rain: Float[Array, "3 h w"]  # A
    scene: Float[Array, "h w"]  # factor of B


def photograph_in_rain(
    key: PRNGKeyArray, clean: Float[Array, "h w 3"], always: bool = False
) -> tuple[Float[Array, "h w 3"], Float[Array, "h w 3"]]:
    """Photograph a scene twice with one camera, with and without rain. Pure; may be jitted and vmapped.

    Args:
        key: selects rain, light and camera.
        clean: the scene, float32 (H, W, 3), in [0, 1].
        always: add rain to every picture.

    Returns:
        Rainy and clean, (H, W, 3) each, multiples of 1/255 in [0, 1].
    """
    draws = Draws(key, 128)
    scenes = blend(draws, jnp.moveaxis(clean, -1, 0))
    rainy, clean = photograph(jnp.stack(scenes), draw_camera(draws))
    if always:
        return rainy, clean
    return jnp.where(draws.fractions() < _DRY, clean, rainy), clean


def blend(draws: Draws, planes: Float[Array, "3 h w"]) -> tuple[Float[Array, "3 h w"], Float[Array, "3 h w"]]:
    """The scene with and without rain, by day or night, before the camera.

    Args:
        draws: random numbers that select rain and light.
        planes: red, green and blue of the scene, (3, H, W), in [0, 1].

    Returns:
        O and B, (3, H, W) each, in [0, 1]; functions of a pixel's position and value.
    """
    height, width = planes.shape[-2:]
    through = _transmission(draws, height, width)[None]
    light = _draw_light(draws, height, width)
    scene = planes * light.scene[None]
    return scene * through + light.rain * (1 - through), scene


def _transmission(draws: Draws, height: int, width: int) -> Float[Array, "h w"]:
    """Share of the scene's light that passes the rain, 0 to 1; a function of a pixel's position."""
    rain = _draw_rain(draws)
    depth = rain.depth + rain.relief * smooth_field(draws, height, width, (150.0, 1500.0))
    depth = jnp.clip(depth, 0, 1)
    between = smooth_field(draws, height, width, (60.0, 600.0), rain.angle, 20.0)
    density = 1 - rain.curtains * (0.5 + 0.5 * jnp.tanh(between))
    y = jnp.arange(height, dtype=jnp.float32)[:, None]
    x = jnp.arange(width, dtype=jnp.float32)[None, :]

    def cover(through: Float[Array, "h w"], part: tuple[Layer, Float[Array, ""]]) -> tuple[Float[Array, "h w"], None]:
        layer, distance = part
        in_front = jnp.clip((depth - distance) / 0.15, 0, 1)
        layer = layer._replace(occupied=jnp.maximum(layer.occupied * density * in_front, 1e-6))
        return through * jnp.maximum(1 - render_layer(y, x, layer, drops=True), 0), None

    through, _ = lax.scan(cover, jnp.exp(-rain.veil * density * depth), (rain.layers, rain.distance))
    return through


def _draw_rain(draws: Draws) -> _Rain:
    # A drop falls this many times its width while the shutter is open, and is dimmed by the same factor.
    slender = draws.log_uniform(1.8, 60.0)
    alpha = jnp.minimum(draws.log_uniform(0.8, 2.5) * (slender / 4) ** -0.35, 0.95)
    nearest, far = draws.log_uniform(2.0, 9.0), draws.log_uniform(0.12, 0.5)
    defocus = jnp.maximum(draws.uniform(-6.0, 12.0), 0)
    # As many drops cover less of the picture while the shutter is open for less.
    share = jnp.minimum(draws.log_uniform(0.15, 4.0), 1) * jnp.minimum(slender / 8, 1)
    rising = draws.uniform(0.1, 1.0)
    lean = draws.uniform(-1.0, 1.0)
    angle = 45 * lean * jnp.abs(lean)
    jitter = draws.uniform(0.5, 4.0)

    place, turn = draws.fractions(2, _LAYERS)
    distance = (jnp.arange(_LAYERS, dtype=jnp.float32) + place) / _LAYERS
    size = far**distance
    sharp = nearest * size
    width = jnp.hypot(jnp.maximum(sharp, FINEST), defocus * size)
    radius = width / (2 * HALF)
    length = jnp.minimum((slender - 1) * sharp, _LONGEST) + 2.4 * radius  # with space for the drop's own length
    slope = jnp.full_like(size, jnp.tan(jnp.deg2rad(jitter)))
    layers = Layer(
        seed=draws.words(_LAYERS),
        angle=jnp.deg2rad(angle + jitter * (2 * turn - 1)),
        slope=slope,
        length=length,
        column=2 * (radius + 0.5 * slope * length),
        radius=radius,
        occupied=share * (far / size) ** rising,  # the volume that a cell looks into grows with the distance
        brightness=alpha * sharp / width,  # a blurred or very thin streak covers less
    )
    return _Rain(
        layers=layers,
        distance=0.9 * distance,
        angle=angle,
        depth=draws.uniform(0.55, 1.3),
        relief=draws.uniform(0.1, 0.5),
        curtains=draws.uniform(0.0, 1.0),
        veil=jnp.maximum(draws.uniform(-0.15, 0.35), 0) * share,
    )


def _draw_light(draws: Draws, height: int, width: int) -> _Light:
    """By day the nearly even light of the sky; at night lamps that light pools of rain and scene."""
    night = draws.fractions() < _NIGHT
    brightness, uneven, dark = draws.uniform(0.75, 1.0), draws.uniform(0.0, 0.3), draws.uniform(0.2, 0.6)
    warm = jnp.where(night, draws.uniform(-0.05, 0.2), draws.uniform(-0.08, 0.08))
    pool = 0.5 + 0.5 * jnp.tanh(1.5 * smooth_field(draws, height, width, (250.0, 1200.0)))
    scene = jnp.where(night, dark + (1 - dark) * pool * pool, 1.0)
    colour = jnp.stack([1 + warm, jnp.ones_like(warm), 1 - warm])[:, None, None]
    rain = brightness * jnp.where(night, jnp.sqrt(scene), 1 - uneven * pool)[None] * colour
    return _Light(rain=jnp.clip(rain, 0, 1), scene=scene)
