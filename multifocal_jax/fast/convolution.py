"""Convolutions with PyTorch's padding, computed in the way that is fastest on the platform."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from multifocal_jax.fast.extent import Extent, zero_beyond
from multifocal_jax.fast.phases import join_phases
from multifocal_jax.fast.rows import (
    is_large,
    large_strip_height,
    map_rows,
    strip_height,
    take_rows,
    take_rows_around,
    whole_strip_height,
)
from multifocal_jax.fast.winograd import transform_kernel, winograd_rows

Map = Float[Array, "b h w c"]
Kernel = Float[Array, "k k c f"]
Small = Float[Array, "b h2 w2 f"]

# Tuned on a CPU (docs/performance-log.md): pixels of a strip; pixels and channels below which gradients in strips are
# slower; products per pixel and tap from which Winograd's transforms pay off.
_STRIP = 2048
_FEWEST_PIXELS = 1024
_FEWEST_CHANNELS = 16
_MANY_PRODUCTS = 8192


def convolve(
    x: Map, kernel: Kernel, bias: Float[Array, " f"], stride: int = 1, extent: Extent | None = None
) -> Float[Array, "b h2 w2 f"]:
    """2-D convolution, zero-padded by k // 2 on every side, as PyTorch's `Conv2d(padding=k // 2)`.

    Args:
        x: (B, H, W, C).
        kernel: (k, k, C, F), k odd; 1×1 at stride 1 is computed as a matrix product.
        bias: (F,).
        stride: 1 or 2.
        extent: of the picture in x, where x is padded; the padding counts as zeros.

    Returns:
        (B, ⌈H / stride⌉, ⌈W / stride⌉, F).
    """
    size = kernel.shape[0]
    if size == 1 and stride == 1:
        return jnp.einsum("bhwc,cf->bhwf", x, kernel[0, 0]) + bias[None, None, None]
    return _convolve(stride, x, kernel, extent) + bias[None, None, None]


def convolve_relu(
    x: Map, kernel: Kernel, bias: Float[Array, " f"], stride: int = 1, extent: Extent | None = None
) -> Float[Array, "b h2 w2 f"]:
    """ReLU of `convolve`; where a large map is not differentiated, nothing but the result is stored."""

    def layers(x: Map, kernel: Kernel, bias: Array, extent: Extent | None) -> Small:
        return jax.nn.relu(convolve(x, kernel, bias, stride, extent))

    def strips(x: Map, kernel: Kernel, bias: Array, extent: Extent | None) -> Small:
        return _strips(stride, x, kernel, extent, lambda strip: jax.nn.relu(strip + bias[None, None, None]))

    def by_platform(*given: Any) -> Small:
        return jax.lax.platform_dependent(*given, cpu=strips, default=layers)

    if not _is_cut(stride, x, kernel):
        return layers(x, kernel, bias, extent)
    run = jax.custom_vjp(by_platform)
    run.defvjp(partial(jax.vjp, layers), lambda pull, gradient: pull(gradient))
    return run(x, kernel, bias, extent)


def convolve_rows(x: Map, kernel: Float[Array, "3 3 c f"], cpu: bool) -> Float[Array, "b h-2 w f"]:
    """3×3 convolution of rows that include the row above and the row below, zero-padded at the sides only.

    Args:
        x: (B, H, W, C).
        kernel: (3, 3, C, F).
        cpu: whether it is computed on a CPU, where Winograd's products pay off.

    Returns:
        (B, H − 2, W, F), without bias.
    """
    if cpu and x.dtype in (jnp.float32, jnp.float64):
        return winograd_rows(x, transform_kernel(kernel))
    return _direct(x, kernel, 1, 0)


def _direct(x: Map, kernel: Kernel, stride: int, rows_of_zeros: int) -> Array:
    beside = kernel.shape[0] // 2
    return _padded_convolution(x, kernel, stride, ((rows_of_zeros, rows_of_zeros), (beside, beside)))


def _padded_convolution(x: Map, kernel: Kernel, stride: int, padding: tuple[tuple[int, int], tuple[int, int]]) -> Array:
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=dimensions)


def _forward(stride: int, x: Map, kernel: Kernel, extent: Extent | None = None) -> Small:
    whole = partial(_whole, stride)
    if not _is_cut(stride, x, kernel):
        return whole(x, kernel, extent)
    return jax.lax.platform_dependent(x, kernel, extent, cpu=partial(_strips, stride), default=whole)


def _is_cut(stride: int, x: Map, kernel: Kernel) -> bool:
    return kernel.shape[0] == 3 and is_large(x, max(kernel.shape[2:])) and x.shape[1] % stride == 0


def _whole(stride: int, x: Map, kernel: Kernel, extent: Extent | None = None) -> Small:
    if stride == 1:  # at stride 2 it ends at the picture's last pixel
        x = zero_beyond(x, extent)
    return _direct(x, kernel, stride, kernel.shape[0] // 2)


def _strips(
    stride: int,
    x: Map,
    kernel: Kernel,
    extent: Extent | None = None,
    finish: Callable[[Array], Array] = lambda strip: strip,
) -> Small:
    b, h, w, _ = x.shape
    rows = large_strip_height(h // stride, b * w * stride * max(kernel.shape[2:]))

    def strip(first: Array, _: Array) -> Array:
        window = take_rows_around(x, first * stride, rows * stride, extent)
        return finish(_direct(window[:, : 3 + (rows - 1) * stride], kernel, stride, 0))

    return map_rows(strip, jax.lax.empty((b, h // stride, -(-w // stride), kernel.shape[-1]), x.dtype), rows)


_convolve = jax.custom_vjp(_forward, nondiff_argnums=(0,))  # `convolve` without bias


def _keep_inputs(stride: int, x: Map, kernel: Kernel, extent: Extent | None) -> tuple[Small, Any]:
    return _forward(stride, x, kernel, extent), (x, kernel, extent)


def _gradients(stride: int, saved: Any, gradient: Small) -> tuple[Map, Kernel, None]:
    x, kernel, extent = saved
    dx, d_kernel = _gradients_of_all(stride, zero_beyond(x, extent), kernel, gradient)
    return zero_beyond(dx, extent), d_kernel, None


def _gradients_of_all(stride: int, x: Map, kernel: Kernel, gradient: Small) -> tuple[Map, Kernel]:
    plain = partial(_plain_gradients, stride)
    if not _has_quick_gradients(stride, x, kernel):
        return plain(x, kernel, gradient)
    quick = (_quick_gradients, _quick_gradients_of_half)[stride - 1]
    return jax.lax.platform_dependent(x, kernel, gradient, cpu=quick, default=plain)


_convolve.defvjp(_keep_inputs, _gradients)


def _plain_gradients(stride: int, x: Map, kernel: Kernel, gradient: Small) -> tuple[Map, Kernel]:
    return jax.vjp(partial(_whole, stride), x, kernel)[1](gradient)


def _has_quick_gradients(stride: int, x: Map, kernel: Kernel) -> bool:
    size, _, inputs, features = kernel.shape
    sides = x.shape[1:3]
    return (
        size == 3
        and x.dtype in (jnp.float32, jnp.float64)
        and (inputs * features >= _MANY_PRODUCTS if stride == 1 else min(inputs, features) >= _FEWEST_CHANNELS)
        and all(side % stride == 0 for side in sides)
        and math.prod(sides) >= _FEWEST_PIXELS
    )


def _quick_gradients(x: Map, kernel: Kernel, gradient: Small) -> tuple[Map, Kernel]:
    """Gradients of a convolution at stride 1: that of the input by Winograd's products, strip by strip."""
    transformed = transform_kernel(kernel[::-1, ::-1].swapaxes(2, 3))
    dx = jax.lax.map(partial(_convolve_image, transformed), gradient)
    return dx, jax.vjp(lambda kernel: _direct(x, kernel, 1, 1), kernel)[1](gradient)[0]


def _convolve_image(transformed: Array, image: Float[Array, "h w c"]) -> Float[Array, "h w f"]:
    """Winograd's 3×3 convolution of one image, strip by strip."""
    h, w, _ = image.shape
    rows = strip_height(h, w, _STRIP)

    def strip(first: Array, _: Array) -> Array:
        return winograd_rows(take_rows_around(image[None], first, rows), transformed)

    return map_rows(strip, jax.lax.empty((1, h, w, transformed.shape[-1]), image.dtype), rows)[0]


def _quick_gradients_of_half(x: Map, kernel: Kernel, gradient: Small) -> tuple[Map, Kernel]:
    """Gradients of a convolution at stride 2 and even sizes.

    The gradient of the input is a convolution at stride 1 that yields the four pixels of each 2×2 block: tap 1 of their
    own output covers the upper ones, tap 2 of it and tap 0 of the output below cover the lower ones; columns likewise.
    """
    _, _, inputs, features = kernel.shape
    w = gradient.shape[2]
    blocks = jnp.pad(kernel, ((1, 0), (1, 0), (0, 0), (0, 0))).reshape(2, 2, 2, 2, inputs, features)[::-1, :, ::-1]
    blocks = blocks.transpose(0, 2, 5, 1, 3, 4).reshape(2, 2, features, 4 * inputs)
    dx = join_phases(_padded_convolution(gradient, blocks, 1, ((0, 1), (0, 1))))

    def strip(x: Map, first: Array, gradient: Small) -> Array:
        rows = gradient.shape[1]
        pairs = take_rows(x, 2 * first, 2 * rows).reshape(rows, 2, w, 2 * inputs)
        above = jnp.where(first > 0, take_rows(x, jnp.maximum(2 * first - 1, 0), 1), 0).reshape(1, w, 2 * inputs)
        taps = []
        for row in (jnp.concatenate([above, pairs[:-1, 1]]), pairs[:, 0], pairs[:, 1]):
            taps += [jnp.pad(row[:, :-1, inputs:], ((0, 0), (1, 0), (0, 0))), row]
        patches = jnp.concatenate(taps, axis=-1).reshape(rows * w, 9 * inputs)
        return jnp.einsum("nk,nf->kf", patches, gradient.reshape(rows * w, features))

    return dx, _sum_strips(strip, x, gradient).reshape(kernel.shape)


def _sum_strips(body: Callable[[Map, Array, Small], Array], x: Map, gradient: Small) -> Array:
    """Σ over images and strips of rows of `body(image, first, gradient of rows first …)`."""
    b, h, w, _ = gradient.shape
    rows = whole_strip_height(h, w, _STRIP)
    strips = h // rows

    def term(index: Array) -> Array:
        image, first = index // strips, index % strips * rows
        x_of_image, of_image = (jax.lax.dynamic_slice_in_dim(y, image, 1) for y in (x, gradient))
        return body(x_of_image, first, take_rows(of_image, first, rows))

    def step(index: Array, total: Array) -> Array:
        return total + term(index)

    shape = jax.eval_shape(term, jnp.int32(0))
    return jax.lax.fori_loop(0, b * strips, step, jnp.zeros(shape.shape, shape.dtype))
