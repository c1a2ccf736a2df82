"""The spatial attention (eqs. 4 and 5) by strips of rows, from the projection of Q to the sum with F_in."""

import math
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from multifocal_jax.fast import band_attention, cudnn_attention
from multifocal_jax.fast.column_attention import attention_gradients
from multifocal_jax.fast.phases import by_phase, join_phases
from multifocal_jax.fast.rows import CPU_STRIP, STRIP, map_rows, strip_height, whole_strip_height
from multifocal_jax.ops import haar_dwt
from multifocal_jax.ops.attention import BANDS

Map = Float[Array, "b h w c"]
Anchors = Float[Array, "b s c"]


@jax.custom_vjp
def add_spatial_attention(
    x: Map, kernel: Float[Array, "c c"], bias: Float[Array, " c"], key: Anchors, value: Anchors
) -> Map:
    """The spatial CSSAB from its Q projection on: F_out = F_in + [M_k V_k] (eqs. 4 and 5), Q = FRCB(x·kernel + bias).

    Some rows are taken through all of it at a time: on a CPU they and their 4·S numbers per pixel of M stay in the
    cache, elsewhere they bound the memory. Nothing but the inputs is kept for the gradient (docs/performance.md).

    Args:
        x: (B, H, W, C), F_in; H and W even.
        kernel: (C, C), of the 1×1 convolution that makes Q.
        bias: (C,).
        key: (B, S, C), re-calibrated and pooled; band k is channels k·C/4 … (k+1)·C/4 − 1.
        value: (B, S, C), likewise.

    Returns:
        (B, H, W, C).
    """
    strips = _on_accelerators(_forward_strips, x)
    return jax.lax.platform_dependent(x, kernel, bias, key, value, cpu=_forward_by_image, **strips)


def _keep_inputs(*inputs: Array) -> tuple[Map, tuple[Array, ...]]:
    return add_spatial_attention(*inputs), inputs  # pyright: ignore[reportArgumentType]


def _backward(saved: tuple[Array, ...], gradient: Map) -> tuple[Array, ...]:
    strips = _on_accelerators(_backward_strips, saved[0])
    return jax.lax.platform_dependent(*saved, gradient, cpu=attention_gradients, **strips)


add_spatial_attention.defvjp(_keep_inputs, _backward)


def _on_accelerators(strips: Callable[..., Any], x: Map) -> dict[str, Callable[..., Any]]:
    ways = {"default": partial(strips, band_attention, STRIP)}
    if cudnn_attention.serves(x.dtype, x.shape[-1] // BANDS):
        ways["cuda"] = partial(strips, cudnn_attention, STRIP)
    return ways


def _strip(bands: ModuleType, x: Map, kernel: Array, bias: Array, key: Anchors, value: Anchors) -> Map:
    """`add_spatial_attention` of some rows, all at once."""
    b, h, w, c = x.shape
    update = bands.attend(_queries(x, by_phase(kernel), by_phase(bias)), _bands(key), _bands(value))
    return x + join_phases(update.reshape(b, h // 2, w // 2, 4 * c))


def _queries(x: Map, kernel: Array, bias: Array) -> list[Float[Array, "b n d"]]:
    """Q of every band; the four pixels of a block lie one after the other."""
    b, h, w, c = x.shape
    return [band.reshape(b, h * w, c // BANDS) for band in haar_dwt(x @ kernel + bias[None, None, None])]


def _bands(x: Float[Array, "b n c"]) -> list[Float[Array, "b n d"]]:
    return jnp.split(x, BANDS, axis=-1)


def _forward_strips(bands: ModuleType, strip: int, x: Map, *rest: Array) -> Map:
    b, h, w, _ = x.shape
    rows = strip_height(h, b * w, strip, 2)
    return map_rows(lambda _, strip: _strip(bands, strip, *rest), x, rows)


def _backward_strips(bands: ModuleType, strip: int, x: Map, *rest_and_gradient: Array) -> tuple[Array, ...]:
    *rest, gradient = rest_and_gradient
    b, h, w, c = x.shape
    rows = whole_strip_height(h, b * w, strip, 2)

    def gradients(x: Map, gradient: Map) -> tuple[Array, ...]:
        return jax.vjp(partial(_strip, bands), x, *rest)[1](gradient)

    if rows == h:
        return gradients(x, gradient)

    def step(total: Any, strips: Any) -> tuple[Any, Map]:
        dx, *others = gradients(*strips)
        return jax.tree.map(jnp.add, total, others), dx

    zeros = [jnp.zeros_like(given) for given in rest]
    cut = [jnp.moveaxis(y.reshape(b, h // rows, rows, w, c), 1, 0) for y in (x, gradient)]
    total, dx = jax.lax.scan(step, zeros, cut)
    return jnp.moveaxis(dx, 0, 1).reshape(x.shape), *total


def _forward_by_image(x: Map, kernel: Array, bias: Array, key: Anchors, value: Anchors) -> Map:
    """On a CPU large products with a batch axis are slow: one image after the other."""
    if math.prod(x.shape[:3]) <= CPU_STRIP:
        return _forward_strips(band_attention, CPU_STRIP, x, kernel, bias, key, value)

    def image(of_image: tuple[Array, Array, Array]) -> Array:
        x, key, value = (part[None] for part in of_image)
        return _forward_strips(band_attention, CPU_STRIP, x, kernel, bias, key, value)[0]

    return jax.lax.map(image, (x, key, value))
