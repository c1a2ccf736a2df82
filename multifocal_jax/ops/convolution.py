"""Convolutions with PyTorch's padding, computed in the way that the platform is best at."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Map = Float[Array, "b h w c"]
Kernel = Float[Array, "k k c f"]


def convolve(x: Map, kernel: Kernel, bias: Float[Array, " f"], stride: int = 1) -> Float[Array, "b h2 w2 f"]:
    """2-D convolution, zero-padded by k // 2 on every side, as PyTorch's `Conv2d(padding=k // 2)`.

    Args:
        x: (B, H, W, C).
        kernel: (k, k, C, F), k odd; 1×1 at stride 1 is computed as a matrix product.
        bias: (F,).
        stride: 1 or 2.

    Returns:
        (B, ⌈H / stride⌉, ⌈W / stride⌉, F).
    """
    size = kernel.shape[0]
    if size == 1 and stride == 1:
        return jnp.einsum("bhwc,cf->bhwf", x, kernel[0, 0]) + bias
    return _direct(x, kernel, stride, size // 2) + bias


def convolve_rows(x: Map, kernel: Float[Array, "3 3 c f"], cpu: bool) -> Float[Array, "b h-2 w f"]:
    """3×3 convolution of rows that come with the row above and the row below, zero-padded at the sides only.

    Args:
        x: (B, H, W, C).
        kernel: (3, 3, C, F).
        cpu: whether it is computed on a CPU, where Winograd's products pay.

    Returns:
        (B, H − 2, W, F), without bias.
    """
    if cpu and x.dtype in (jnp.float32, jnp.float64):
        return winograd_rows(x, kernel)
    return _direct(x, kernel, 1, 0)


def _direct(x: Map, kernel: Kernel, stride: int, rows_of_zeros: int) -> Array:
    beside = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=((rows_of_zeros, rows_of_zeros), (beside, beside)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


# Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016), section 4.1: F(4, 3) makes 4 outputs of a
# convolution with 3 taps from 6 products instead of 12.
_OUTPUTS, _POINTS = 4, 6
_OF_INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_OF_KERNEL = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
_OF_OUTPUT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])


def winograd_rows(x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c f"]) -> Float[Array, "b h-2 w f"]:
    """3×3 convolution, zero-padded at the left and the right only, with half the products of the plain one.

    Winograd's minimal filtering F(4, 3) along the rows; the three taps down the columns are one product with 3·C
    inputs.
    In float32 the result is within 3e-6 of the plain one, relative to the largest value.

    Args:
        x: (B, H, W, C), float32 or wider, with the row above and the row below the result.
        kernel: (3, 3, C, F).

    Returns:
        (B, H − 2, W, F).
    """
    b, h, w, c = x.shape
    rows, tiles, features = h - 2, -(-w // _OUTPUTS), kernel.shape[-1]
    right = (tiles + 1) * _OUTPUTS - w - 1
    x = jnp.pad(x, ((0, 0), (0, 0), (1, right), (0, 0))).reshape(b, h, tiles + 1, _OUTPUTS, c)
    taps = [x[:, :, :-1, i] if i < _OUTPUTS else x[:, :, 1:, i - _OUTPUTS] for i in range(_POINTS)]
    points = jax.lax.optimization_barrier(jnp.stack([_combine(weights, taps) for weights in _OF_INPUT]))
    points = jnp.concatenate([points[:, :, i : i + rows] for i in range(3)], axis=-1)
    transformed = jnp.einsum("pt,ytcf->pycf", jnp.asarray(_OF_KERNEL, kernel.dtype), kernel)
    products = jnp.einsum(
        "pnc,pcf->pnf", points.reshape(_POINTS, -1, 3 * c), transformed.reshape(_POINTS, 3 * c, features)
    ).reshape(_POINTS, b, rows, tiles, features)
    out = jnp.stack([_combine(weights, list(products)) for weights in _OF_OUTPUT], axis=3)
    return out.reshape(b, rows, tiles * _OUTPUTS, features)[:, :, :w]


def _combine(weights: np.ndarray, terms: list[Array]) -> Array:
    """Σ wᵢ·termᵢ without the products by 0, 1 and −1."""
    total = None
    for weight, term in zip(weights.tolist(), terms, strict=True):
        scaled = term if abs(weight) == 1 else abs(weight) * term
        if weight > 0:
            total = scaled if total is None else total + scaled
        elif weight < 0:
            total = -scaled if total is None else total - scaled
    assert total is not None
    return total
