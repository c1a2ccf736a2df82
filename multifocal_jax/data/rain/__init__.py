"""Synthetic rain over clean photographs, in pure JAX: pairs of a rainy and a clean picture.

`additive` implements the styles "light", "heavy" and "varied", `real` the style of that name.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from multifocal_jax.data.errors import DataError
from multifocal_jax.data.rain.additive import PRESETS, render_rain
from multifocal_jax.data.rain.real import photograph_in_rain

STYLES = (*PRESETS, "real")

_PURPOSE = 0x7261696E  # "rain": separates these keys from others made from the same seed and an index

Pair = tuple[Float[Array, "h w 3"], Float[Array, "h w 3"]]


def rain_key(seed: int, index: int | Int[Array, ""]) -> PRNGKeyArray:
    """The key of the rain over picture or crop `index` under `seed`; the same on every platform.

    Args:
        seed: of a data set or a training run.
        index: 0 to 2³² − 1; may be traced.
    """
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), _PURPOSE), index)


def add_rain(key: PRNGKeyArray, clean: Float[Array, "h w 3"], style: str, always: bool = False) -> Pair:
    """Make a pair from a clean picture. Pure; may be jitted (with `style` and `always` static) and vmapped.

    Args:
        key: selects the rain, see `rain_key`; every key draws its own values from the style's ranges.
        clean: (H, W, 3), in [0, 1].
        style: one of `STYLES`.
        always: add rain to every picture; otherwise "real" leaves one in ten without rain, for training.

    Returns:
        The rainy and the clean picture, (H, W, 3) each, in [0, 1]. The clean one is `clean` itself, and nowhere
        brighter than the rainy one; with "real", it is `clean` as seen by the camera of the rainy one.

    Raises:
        DataError: there is no such style.
    """
    if style not in STYLES:
        raise DataError(f"rain style {style!r} does not exist; allowed: {', '.join(STYLES)}")
    if style == "real":
        rainy, seen = photograph_in_rain(key, clean.astype(jnp.float32), always)
        return rainy.astype(clean.dtype), seen.astype(clean.dtype)
    streaks, veil = render_rain(key, clean.shape[0], clean.shape[1], PRESETS[style])
    return jnp.clip(clean + veil * (1 - clean) + streaks[..., None], 0, 1).astype(clean.dtype), clean


_add_rain = jax.jit(add_rain, static_argnames=("style", "always"))


def rain_over(key: PRNGKeyArray, clean: np.ndarray, style: str, multiple: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """`add_rain` for 8-bit pictures; every picture gets rain.

    Args:
        key: selects the rain, see `rain_key`.
        clean: (H, W, 3), uint8.
        style: one of `STYLES`.
        multiple: the picture is padded to multiples of this many pixels and the result cropped, so that few sizes have
            to be compiled. The rain does not change; with "real", JPEG changes the last rows and columns differently.

    Returns:
        What `add_rain` returns, uint8, rounded to the nearest.

    Raises:
        DataError: there is no such style.
    """
    height, width, _ = clean.shape
    padded = np.pad(clean, ((0, -height % multiple), (0, -width % multiple), (0, 0)), mode="edge")
    pair = _add_rain(key, padded.astype(np.float32) / 255, style=style, always=True)
    rainy, seen = (np.round(np.asarray(side)[:height, :width] * 255).astype(np.uint8) for side in pair)
    return rainy, seen
