"""The effects of a camera and of publishing on a picture: a lens or a change of scale, sensor noise, JPEG.

Both sides of a pair pass through one camera with the same settings and the same noise, so that they
differ by the rain alone.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt32

from multifocal_jax.data.rain.draws import Draws
from multifocal_jax.data.rain.jpeg import jpeg
from multifocal_jax.data.rain.streaks import fraction, mix, to_bits

_BLOCK, _MARGIN = 64, 8  # pixels: a block's outputs depend on its own inputs and on those of the margins


class Camera(NamedTuple):
    """Settings, float32 scalars."""

    scale: Float[Array, ""]  # 0.45 to 1: reduced to this fraction of the size and enlarged again; 1: unchanged
    blur: Float[Array, ""]  # standard deviation of the lens in pixels if the scale is 1; 0: unchanged
    noise: Float[Array, ""]  # standard deviation, 1 being white
    grain: Float[Array, ""]  # 0 to 0.25: share of each neighbour in a pixel's noise, along both axes
    colour: Float[Array, ""]  # 0 to 1: share of the noise that the channels do not have in common
    quality: Float[Array, ""]  # of the JPEG; above 100: none
    seed: UInt32[Array, ""]  # of the noise


def draw_camera(draws: Draws) -> Camera:
    """Draw a camera: two in five change the scale, two in five blur, two in three add noise, five in six use JPEG."""
    kind, lens, noise, grain, colour, file = draws.fractions(6)
    return Camera(
        scale=jnp.where(kind < 0.4, 0.45 + 0.5 * lens, 1.0),
        blur=jnp.where((kind >= 0.4) & (kind < 0.8), 0.35 + 0.75 * lens, 0.0),
        noise=jnp.maximum(0.03 * noise - 0.01, 0.0),
        grain=0.25 * grain,
        colour=colour,
        quality=jnp.where(file < 5 / 6, 30 + 65 * jnp.sqrt(6 / 5 * file), 101.0),
        seed=draws.words(),
    )


def photograph(planes: Float[Array, "n 3 h w"], camera: Camera) -> Float[Array, "n h w 3"]:
    """Photograph scenes with a camera. Pure; may be jitted and vmapped.

    Args:
        planes: red, green and blue of scenes that get the same noise, (N, 3, H, W), in [0, 1].
        camera: its settings.

    Returns:
        (N, H, W, 3), multiples of 1/255 in [0, 1].
    """
    height, width = planes.shape[-2:]
    seen = _filter(jnp.swapaxes(_filter(planes, camera), -1, -2), camera)
    noisy = jnp.swapaxes(seen, -1, -2) + camera.noise * _noise(height, width, camera)[None]
    whole = jnp.round(255 * jnp.clip(noisy, 0, 1))
    red, green, blue = whole[:, 0], whole[:, 1], whole[:, 2]
    decoded = jpeg((red, green, blue), jnp.minimum(camera.quality, 100))
    sides = zip((red, green, blue), decoded, strict=True)
    return jnp.stack([jnp.where(camera.quality > 100, raw, plane) / 255 for raw, plane in sides], -1)


def _filter(planes: Float[Array, "n 3 h w"], camera: Camera) -> Float[Array, "n 3 h w"]:
    """Blur, or reduce and enlarge, along the rows' axis; the picture's border is replicated outside."""
    *front, height, width = planes.shape
    blocks = -(-height // _BLOCK)
    padded = jnp.pad(
        planes, [(0, 0)] * len(front) + [(_MARGIN, _MARGIN + blocks * _BLOCK - height), (0, 0)], mode="edge"
    )
    starts = [padded[..., start : start + _BLOCK + 2 * _MARGIN, :] for start in range(0, blocks * _BLOCK, _BLOCK)]
    weights = _weights(blocks, camera)
    filtered = jnp.einsum("bij,b...jw->...biw", weights, jnp.stack(starts), precision=lax.Precision.HIGHEST)
    return filtered.reshape(*front, blocks * _BLOCK, width)[..., :height, :]


def _weights(blocks: int, camera: Camera) -> Float[Array, "b out in"]:
    """Share of every input in every output of each block."""
    block = np.arange(blocks, dtype=np.float32)[:, None, None] * _BLOCK
    out = block + np.arange(_BLOCK, dtype=np.float32)[:, None]
    source = block + np.arange(-_MARGIN, _BLOCK + _MARGIN, dtype=np.float32)

    # A cubic (Catmull and Rom's) through the pixels of the small picture, each a triangle of the large picture's.
    scale = jnp.minimum(camera.scale, 0.999)
    place = (out + 0.5) * scale - 0.5
    first = jnp.floor(place)
    t = place - first
    cubic = (
        0.5 * t * (-1 + t * (2 - t)),
        1 + 0.5 * t * t * (3 * t - 5),
        0.5 * t * (1 + t * (4 - 3 * t)),
        0.5 * t * t * (t - 1),
    )
    scaled = sum(
        share * jnp.maximum(1 - jnp.abs((first + step + 0.5) - (source + 0.5) * scale), 0)
        for step, share in zip((-1, 0, 1, 2), cubic, strict=True)
    )
    blurred = jnp.exp(-0.5 * ((out - source) / jnp.maximum(camera.blur, 0.1)) ** 2)  # at 0.1, the pixel alone
    weights = jnp.where(camera.scale < 1, scaled, blurred)
    return weights / jnp.sum(weights, -1, keepdims=True)


def _noise(height: int, width: int, camera: Camera) -> Float[Array, "3 h w"]:
    """Noise of variance 1, a function of a pixel's place."""
    y = jnp.arange(-1, height + 1, dtype=jnp.float32)[:, None]
    x = jnp.arange(-1, width + 1, dtype=jnp.float32)[None, :]
    place = mix(to_bits(y) ^ camera.seed) + to_bits(x)
    # A sum of three uniform numbers is close to a normal one, of variance 1/4.
    common, *own = [
        2 * sum(fraction(bits, part) for part in range(3)) - 3
        for bits in (mix(place + np.uint32(channel)) for channel in range(4))
    ]
    noise = jnp.sqrt(1 - camera.colour) * jnp.asarray(common)[None] + jnp.sqrt(camera.colour) * jnp.stack(own)
    centre, side = 1 - 2 * camera.grain, camera.grain
    noise = side * noise[:, :-2] + centre * noise[:, 1:-1] + side * noise[:, 2:]
    noise = side * noise[..., :-2] + centre * noise[..., 1:-1] + side * noise[..., 2:]
    return noise / (centre**2 + 2 * side**2)
