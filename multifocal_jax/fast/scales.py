"""From scale to scale by strips of rows: the way up of a basic module and the fusion of all scales (section 3.4).

The fusion is differentiated layer by layer (docs/performance.md).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from multifocal_jax.fast.convolution import convolve, convolve_rows
from multifocal_jax.fast.extent import Extent, zero_beyond
from multifocal_jax.fast.phases import by_phase, join_phases, split_phases
from multifocal_jax.fast.resize import upsample_bilinear, upsample_columns, upsample_rows
from multifocal_jax.fast.rows import (
    CPU_STRIP,
    STRIP,
    is_large,
    large_strip_height,
    map_rows,
    map_rows_around,
    strip_height,
    take_rows_around,
)

Map = Float[Array, "b h w c"]
Small = Float[Array, "b h/2 w/2 c"]
Level = Float[Array, "b _ _ c"]
UpKernel = Float[Array, "3 3 c 4*c"]
UpBias = Float[Array, " 4*c"]
MergeKernel = Float[Array, "3 3 _ c"]
MergeBias = Float[Array, " c"]

_FEWEST_ROWS = 8  # of a strip on the way up: each is computed from two more, and in large products


@jax.custom_vjp
def add_shuffled(skip: Map, small: Small, kernel: UpKernel, bias: UpBias, extent: Extent | None = None) -> Map:
    """The way up of a basic module: skip + ReLU(PixelShuffle₂(conv3×3(small))).

    Args:
        skip: (B, 2H, 2W, C), the module's input.
        small: (B, H, W, C).
        kernel: (3, 3, C, 4C).
        bias: (4C,).
        extent: of the picture in `small`, where it is padded.

    Returns:
        (B, 2H, 2W, C).
    """
    return _by_platform(_add_shuffled_strips, (skip,), small, kernel, bias, extent)[0]


def _add_shuffled_strips(
    cpu: bool, maps: tuple[jax.Array, ...], small: Level, kernel: UpKernel, bias: UpBias, extent: Extent | None = None
) -> tuple[jax.Array, ...]:
    """The way up into `maps`: the skip and, where a second one is given, where the ReLU lets through."""
    b, h, w, _ = maps[0].shape
    rows = strip_height(h, b * w, max(CPU_STRIP, _FEWEST_ROWS * b * w) if cpu else STRIP, 2)
    kernel, bias = by_phase(kernel), by_phase(bias)[None, None, None]

    def strip(first: Array, maps: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        up = join_phases(convolve_rows(take_rows_around(small, first // 2, rows // 2, extent), kernel, cpu) + bias)
        return (maps[0] + jax.nn.relu(up), up > 0)[: len(maps)]

    return map_rows(strip, maps, rows)


def _add_shuffled_and_keep(skip: Map, small: Small, kernel: UpKernel, bias: UpBias, extent: Extent | None) -> Any:
    maps = skip, jax.lax.empty(skip.shape, jnp.bool_)
    result, passed = _by_platform(_add_shuffled_strips, maps, small, kernel, bias, extent)
    return result, (passed, small, kernel, bias, extent)


def _gradients_of_add_shuffled(saved: Any, gradient: Map) -> Any:
    passed, small, kernel, bias, extent = saved
    of_up = split_phases(jnp.where(passed, gradient, 0))

    def up(small: Level, kernel: UpKernel, bias: UpBias) -> Array:
        return convolve(small, by_phase(kernel), by_phase(bias), extent=extent)

    return gradient, *jax.vjp(up, small, kernel, bias)[1](of_up), None


add_shuffled.defvjp(_add_shuffled_and_keep, _gradients_of_add_shuffled)


@jax.custom_vjp
def merge_scales(
    features: Sequence[Level],
    kernel: MergeKernel,
    bias: MergeBias,
    extent: Extent | None = None,
    shallow: Map | None = None,
) -> Map:
    """The fusion of all scales: ReLU(conv3×3([F_0, up₂(F_1), up₄(F_2), …])), up-sampled bilinearly.

    In place of F_0 where that is not needed any more.

    Args:
        features: level s of shape (B, H / 2^s, W / 2^s, C).
        kernel: (3, 3, levels·C, C).
        bias: (C,).
        extent: of the picture in F_0, where the levels are padded.
        shallow: (B, H, W, C), if given: added to F_0 before.

    Returns:
        (B, H, W, C).
    """
    return _by_platform(_merge_strips, features, kernel, bias, extent, shallow)


def _merge_strips(
    cpu: bool,
    features: Sequence[Level],
    kernel: MergeKernel,
    bias: MergeBias,
    extent: Extent | None = None,
    shallow: Map | None = None,
) -> Map:
    large, *others = features
    b, h, w, _ = large.shape
    in_place = cpu and is_large(large, large.shape[-1])
    if shallow is not None and not in_place:
        large, shallow = large + shallow, None

    def strip(first: Array, window: Array) -> Array:
        rows = window.shape[1] - 2
        together = [window if shallow is None else window + take_rows_around(shallow, first, rows)]
        for level, x in enumerate(others, start=1):
            height, width = _at_level(extent, level) or (None, None)
            up = upsample_rows(x, 2**level, first - 1, rows + 2, height)
            together.append(upsample_columns(up, 2**level, width))
        if in_place:  # of rows so long the inputs of Winograd's products do not stay in the cache
            parts = jnp.split(kernel, len(together), axis=2)
            given = (zero_beyond(x, extent, first - 1) for x in together)
            sums = sum(convolve_rows(x, part, cpu=False) for x, part in zip(given, parts, strict=True))
        else:
            sums = convolve_rows(zero_beyond(jnp.concatenate(together, axis=-1), extent, first - 1), kernel, cpu)
        return jax.nn.relu(sums + bias[None, None, None])

    if in_place:
        return map_rows_around(strip, large, large_strip_height(h, b * w * large.shape[-1]), 1)
    rows = strip_height(h, b * w, CPU_STRIP if cpu else STRIP)
    empty = jax.lax.empty(large.shape, large.dtype)
    return map_rows(lambda first, _: strip(first, take_rows_around(large, first, rows)), empty, rows)


def _at_level(extent: Extent | None, level: int) -> Extent | None:
    return None if extent is None else extent.shrunk(2**level)


def _by_platform(strips: Callable[..., Any], *arguments: Any) -> Any:
    return jax.lax.platform_dependent(*arguments, cpu=partial(strips, True), default=partial(strips, False))


def _merge_layers(
    features: Sequence[Level],
    kernel: MergeKernel,
    bias: MergeBias,
    extent: Extent | None,
    shallow: Map | None,
) -> Map:
    if shallow is not None:
        features = [features[0] + shallow, *features[1:]]
    up = [upsample_bilinear(x, 2**level, _at_level(extent, level)) for level, x in enumerate(features)]
    return jax.nn.relu(convolve(jnp.concatenate(up, axis=-1), kernel, bias, extent=extent))


merge_scales.defvjp(partial(jax.vjp, _merge_layers), lambda pull, gradient: pull(gradient))
