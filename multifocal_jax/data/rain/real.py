"""The style "real": rain that blends with what is behind it, in front of a camera.

O = B·(1 − α) + α·A. A streak covers a share α of the light of the scene B while the shutter is open, and shows that of
the sky or of a lamp, A, in its place: over dark ground it is bright, over a bright sky it is faint or dark. Streaks of
every distance cover the picture one after the other, so 1 − α is a product over the layers; far ones, which are small
and many, stand only where the scene behind is farther still. What is left of the distance is a veil. `camera` then
takes the picture with the rain and the one without.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from multifocal_jax.data.rain.camera import draw_camera, photograph
from multifocal_jax.data.rain.fields import smooth_field
from multifocal_jax.data.rain.streaks import FINEST, HALF, Layer, render_layer

_LAYERS = 10
_LONGEST = 250.0  # pixels
_DRY = 0.1  # share of the pictures without rain
_NIGHT = 0.2  # share of the pictures taken at night


class _Rain(NamedTuple):
    """One picture's draws, float32 scalars where nothing else is said."""

    layers: Layer
    distance: Float[Array, "layers"]  # of the layers, 0 at the lens to 1 at the horizon
    angle: Float[Array, ""]  # of the main direction, in degrees from the vertical
    nearest: Float[Array, ""]  # mean depth of the scene, and
    relief: Float[Array, ""]  # how much it varies
    curtains: Float[Array, ""]  # 0 (even rain) to 1 (none between the curtains)
    veil: Float[Array, ""]  # optical depth of the rain in front of the horizon


class _Light(NamedTuple):
    """The light of one picture."""

    rain: Float[Array, "3 h w"]  # A
    scene: Float[Array, "h w"]  # factor of B


def photograph_in_rain(
    key: PRNGKeyArray, clean: Float[Array, "h w 3"], always: bool = False
) -> tuple[Float[Array, "h w 3"], Float[Array, "h w 3"]]:
    """Take a scene twice with one camera, in rain and without. Pure; may be jitted and vmapped.

    Args:
        key: which rain, light and camera.
        clean: the scene, float32 (H, W, 3), in [0, 1].
        always: leave no picture without rain.

    Returns:
        Rainy and clean, (H, W, 3) each, multiples of 1/255 in [0, 1].
    """
    height, width, _ = clean.shape
    rain_key, light_key, camera_key, dry_key = jax.random.split(key, 4)
    through = _transmission(rain_key, height, width)
    light = _draw_light(light_key, height, width)
    scene = jnp.moveaxis(clean, -1, 0) * light.scene
    rainy = scene * through + light.rain * (1 - through)
    rainy, clean = jnp.moveaxis(photograph(jnp.stack([rainy, scene]), draw_camera(camera_key)), 1, -1)
    if always:
        return rainy, clean
    return jnp.where(jax.random.uniform(dry_key) < _DRY, clean, rainy), clean


def _transmission(key: PRNGKeyArray, height: int, width: int) -> Float[Array, "h w"]:
    """Share of the scene's light that the rain leaves, 0 to 1; a function of a pixel's place."""
    draw_key, depth_key, curtain_key = jax.random.split(key, 3)
    rain = _draw_rain(draw_key)
    depth = rain.nearest + rain.relief * smooth_field(depth_key, height, width, (150.0, 1500.0))
    depth = jnp.clip(depth, 0, 1)
    between = smooth_field(curtain_key, height, width, (60.0, 600.0), rain.angle, 20.0)
    density = 1 - rain.curtains * (0.5 + 0.5 * jnp.tanh(between))
    y = jnp.arange(height, dtype=jnp.float32)[:, None]
    x = jnp.arange(width, dtype=jnp.float32)[None, :]

    def cover(through: Float[Array, "h w"], part: tuple[Layer, Float[Array, ""]]) -> tuple[Float[Array, "h w"], None]:
        layer, distance = part
        in_front = jnp.clip(0.5 + (depth - distance) / 0.3, 0, 1)
        layer = layer._replace(occupied=jnp.maximum(layer.occupied * density * in_front, 1e-6))
        return through * jnp.maximum(1 - render_layer(y, x, layer, drops=True), 0), None

    through, _ = lax.scan(cover, jnp.exp(-rain.veil * density * depth), (rain.layers, rain.distance))
    return through


def _draw_rain(key: PRNGKeyArray) -> _Rain:
    picture_key, layer_key, seed_key = jax.random.split(key, 3)
    chances = iter(jax.random.uniform(picture_key, (13,), jnp.float32))

    def uniform(low: float, high: float) -> Float[Array, ""]:
        return low + (high - low) * next(chances)

    def log_uniform(low: float, high: float) -> Float[Array, ""]:
        return low * (high / low) ** next(chances)

    # A drop of a given size falls so many times its width while the shutter is open, and dims by as much.
    slender = log_uniform(1.6, 45.0)
    alpha = jnp.minimum(log_uniform(0.45, 1.6) * (slender / 4) ** -0.35, 0.95)
    nearest, far = log_uniform(2.5, 9.0), log_uniform(0.12, 0.5)
    defocus = jnp.maximum(uniform(-6.0, 12.0), 0)
    # As many drops cover less of the picture while the shutter is open for less.
    share = jnp.minimum(log_uniform(0.15, 4.0) * jnp.minimum(slender / 8, 1), 1)
    rising = uniform(0.1, 1.0)
    lean = uniform(-1.0, 1.0)
    angle = 45 * lean * jnp.abs(lean)
    jitter = uniform(0.5, 4.0)

    place, turn = jax.random.uniform(layer_key, (2, _LAYERS), jnp.float32)
    distance = (jnp.arange(_LAYERS, dtype=jnp.float32) + place) / _LAYERS
    size = far**distance
    sharp = nearest * size
    width = jnp.hypot(jnp.maximum(sharp, FINEST), defocus * size)
    radius = width / (2 * HALF)
    length = jnp.minimum((slender - 1) * sharp, _LONGEST) + 2.4 * radius  # room for a drop's own length and more
    slope = jnp.full_like(size, jnp.tan(jnp.deg2rad(jitter)))
    layers = Layer(
        seed=jax.random.bits(seed_key, (_LAYERS,), jnp.uint32),
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
        distance=0.05 + 0.9 * distance,
        angle=angle,
        nearest=uniform(0.5, 1.2),
        relief=uniform(0.1, 0.5),
        curtains=uniform(0.0, 1.0),
        veil=jnp.maximum(uniform(-0.15, 0.35), 0) * share,
    )


def _draw_light(key: PRNGKeyArray, height: int, width: int) -> _Light:
    """By day the sky's, nearly even; at night lamps that light pools of rain and of the scene."""
    draw_key, pool_key = jax.random.split(key)
    chances = iter(jax.random.uniform(draw_key, (6,), jnp.float32))
    night = next(chances) < _NIGHT
    brightness = 0.75 + 0.25 * next(chances)
    uneven = 0.3 * next(chances)
    dark = 0.2 + 0.4 * next(chances)
    warm = jnp.where(night, -0.05 + 0.25 * next(chances), 0.08 * (2 * next(chances) - 1))
    pool = 0.5 + 0.5 * jnp.tanh(1.5 * smooth_field(pool_key, height, width, (150.0, 800.0)))
    scene = jnp.where(night, dark + (1 - dark) * pool * pool, 1.0)
    colour = jnp.stack([1 + warm, jnp.ones_like(warm), 1 - warm])[:, None, None]
    rain = brightness * jnp.where(night, jnp.sqrt(scene), 1 - uneven * pool) * colour
    return _Light(rain=jnp.clip(rain, 0, 1), scene=scene)
