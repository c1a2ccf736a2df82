"""From scale to scale: the way up of a basic module and the fusion of all scales (section 3.4, figure 2).

Both are written twice: as the paper has them, which is what training differentiates, and by strips of rows, in which a
picture is de-rained (docs/performance.md).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from multifocal_jax.ops.convolution import convolve, convolve_rows
from multifocal_jax.ops.resize import pixel_shuffle, upsample_bilinear, upsample_columns, upsample_rows
from multifocal_jax.ops.rows import CPU_STRIP, STRIP, map_rows, strip_height, take_rows_around
from multifocal_jax.ops.wavelet import by_phase

Map = Float[Array, "b h w c"]
Small = Float[Array, "b h/2 w/2 c"]
Level = Float[Array, "b _ _ c"]
UpKernel = Float[Array, "3 3 c 4*c"]
UpBias = Float[Array, " 4*c"]
MergeKernel = Float[Array, "3 3 _ c"]
MergeBias = Float[Array, " c"]
Convolution = Callable[[jax.Array], jax.Array]


def plain_add_shuffled(skip: Map, small: Small, convolution: Convolution) -> Map:
    """`add_shuffled` as the paper has it, for any convolution: the reference."""
    return skip + jax.nn.relu(pixel_shuffle(convolution(small), 2))


@jax.custom_vjp
def add_shuffled(skip: Map, small: Small, kernel: UpKernel, bias: UpBias) -> Map:
    """The way up of a basic module: skip + ReLU(PixelShuffle₂(conv3×3(small))).

    Args:
        skip: (B, 2H, 2W, C), the module's input.
        small: (B, H, W, C).
        kernel: (3, 3, C, 4C).
        bias: (4C,).

    Returns:
        (B, 2H, 2W, C).
    """
    return _by_platform(_add_shuffled_strips, skip, small, kernel, bias)


def _add_shuffled_strips(cpu: bool, skip: Map, small: Small, kernel: UpKernel, bias: UpBias) -> Map:
    b, h, w, c = skip.shape
    rows = strip_height(h, b * w, CPU_STRIP if cpu else STRIP, 2)
    kernel, bias = by_phase(kernel), by_phase(bias)

    def strip(first: Array, skip: Array) -> Array:
        up = convolve_rows(take_rows_around(small, first // 2, rows // 2), kernel, cpu) + bias
        up = jax.nn.relu(up).reshape(b, rows // 2, w // 2, 2, 2, c).swapaxes(2, 3)
        return skip + up.reshape(b, rows, w, c)

    return map_rows(strip, skip, rows)


def plain_merge_scales(features: Sequence[Level], convolution: Convolution) -> Map:
    """`merge_scales` as the paper has it, for any convolution: the reference."""
    together = jnp.concatenate([upsample_bilinear(x, 2**level) for level, x in enumerate(features)], axis=-1)
    return jax.nn.relu(convolution(together))


@jax.custom_vjp
def merge_scales(features: Sequence[Level], kernel: MergeKernel, bias: MergeBias) -> Map:
    """The fusion of all scales: ReLU(conv3×3([F_0, up₂(F_1), up₄(F_2), …])), up-sampled bilinearly.

    Args:
        features: level s of shape (B, H / 2^s, W / 2^s, C).
        kernel: (3, 3, levels·C, C).
        bias: (C,).

    Returns:
        (B, H, W, C).
    """
    return _by_platform(_merge_strips, features, kernel, bias)


def _merge_strips(cpu: bool, features: Sequence[Level], kernel: MergeKernel, bias: MergeBias) -> Map:
    large, *others = features
    b, h, w, _ = large.shape
    rows = strip_height(h, b * w, CPU_STRIP if cpu else STRIP)

    def strip(first: Array, _: Array) -> Array:
        together = [take_rows_around(large, first, rows)]
        for level, x in enumerate(others, start=1):
            together.append(upsample_columns(upsample_rows(x, 2**level, first - 1, rows + 2), 2**level))
        return jax.nn.relu(convolve_rows(jnp.concatenate(together, axis=-1), kernel, cpu) + bias)

    return map_rows(strip, jnp.zeros_like(large), rows)


def _by_platform(strips: Callable[..., Map], *arguments: Any) -> Map:
    return jax.lax.platform_dependent(*arguments, cpu=partial(strips, True), default=partial(strips, False))


def _differentiate_plain(plain: Callable[..., Map], *arguments: Any) -> tuple[Map, Any]:
    """Result and pull-back of a plain form with the kernel and bias that come last."""

    def run(*arguments: Any) -> Map:
        *maps, kernel, bias = arguments
        return plain(*maps, lambda x: convolve(x, kernel, bias))

    return jax.vjp(run, *arguments)


add_shuffled.defvjp(partial(_differentiate_plain, plain_add_shuffled), lambda pull, gradient: pull(gradient))
merge_scales.defvjp(partial(_differentiate_plain, plain_merge_scales), lambda pull, gradient: pull(gradient))
