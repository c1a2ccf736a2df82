"""Convolutions and the layers around them against PyTorch, strip by strip and as a whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

from multifocal_jax import ops
from multifocal_jax.fast import convolution, rows, scales
from multifocal_jax.fast.residual import residual_block
from multifocal_jax.fast.scales import add_shuffled, merge_scales
from multifocal_jax.fast.winograd import transform_kernel, winograd_rows


def to_torch(x):
    """Channels first for images, out-in-height-width for kernels."""
    x = torch.from_numpy(np.asarray(x))
    return x if x.ndim == 1 else x.permute(0, 3, 1, 2)


def kernel_to_torch(kernel):
    return torch.from_numpy(np.asarray(kernel)).permute(3, 2, 0, 1)


def cut_every_map(monkeypatch, numbers):
    """Take every map for a large one, in strips of so many numbers."""
    monkeypatch.setattr(rows, "_LARGE", 1)
    monkeypatch.setattr(rows, "_LARGE_STRIP", numbers)


def channels_last(x):
    return x.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (3, 1), (3, 2), (5, 1)])
def test_convolve_pads_as_pytorch_does(rng, size, stride):
    x, kernel, bias = (
        rng.standard_normal(shape).astype(np.float32) for shape in ((2, 10, 14, 3), (size, size, 3, 5), (5,))
    )
    expected = functional.conv2d(to_torch(x), kernel_to_torch(kernel), to_torch(bias), stride=stride, padding=size // 2)
    for convolve in (ops.convolve, convolution.convolve):
        ours = convolve(jnp.asarray(x), jnp.asarray(kernel), jnp.asarray(bias), stride)
        np.testing.assert_allclose(ours, channels_last(expected), atol=1e-4)


@pytest.mark.parametrize("strip", [1, 700, 9999])  # a row, some, which do not divide the height at stride 2, all rows
@pytest.mark.parametrize("stride", [1, 2])
def test_convolve_large_maps(rng, monkeypatch, stride, strip):
    cut_every_map(monkeypatch, strip)
    x, kernel, bias = (rng.standard_normal(shape) for shape in ((2, 22, 14, 3), (3, 3, 3, 5), (5,)))
    torch_x = to_torch(x).requires_grad_()
    result = functional.conv2d(torch_x, kernel_to_torch(kernel), to_torch(bias), stride=stride, padding=1)
    (of_x,) = torch.autograd.grad(functional.relu(result).sum(), [torch_x])
    expected = channels_last(result.detach())
    with jax.enable_x64(True):
        x, kernel, bias = (jnp.asarray(value) for value in (x, kernel, bias))
        np.testing.assert_allclose(convolution.convolve(x, kernel, bias, stride), expected, atol=1e-12)
        without_negatives = convolution.convolve_relu(x, kernel, bias, stride)
        np.testing.assert_allclose(without_negatives, np.maximum(expected, 0), atol=1e-12)
        ours = jax.grad(lambda x: jnp.sum(convolution.convolve_relu(x, kernel, bias, stride)))(x)
        np.testing.assert_allclose(ours, channels_last(of_x), atol=1e-12)


@pytest.mark.parametrize("strip", [1, 300, 9999])  # two rows, six, which do not divide the height, all rows
def test_residual_block(rng, monkeypatch, strip):
    cut_every_map(monkeypatch, strip)
    x = rng.standard_normal((1, 22, 12, 4))
    weights = [rng.standard_normal(shape) for shape in ((3, 3, 4, 4), (4,), (3, 3, 4, 4), (4,))]
    theirs = [to_torch(x), *(kernel_to_torch(w) if w.ndim == 4 else to_torch(w) for w in weights)]
    theirs = [value.requires_grad_() for value in theirs]
    inner = functional.relu(functional.conv2d(theirs[0], theirs[1], theirs[2], padding=1))
    result = theirs[0] + functional.conv2d(inner, theirs[3], theirs[4], padding=1)
    gradient = rng.standard_normal(x.shape)
    of_x, *of_weights = torch.autograd.grad(result, theirs, to_torch(gradient))
    gradients = [g.permute(2, 3, 1, 0).numpy() if g.ndim == 4 else g.numpy() for g in of_weights]
    with jax.enable_x64(True):
        given = jnp.asarray(x), tuple(map(jnp.asarray, weights))
        differentiated, pull = jax.vjp(residual_block, *given)
        for ours in (jax.jit(residual_block)(*given), differentiated):
            np.testing.assert_allclose(ours, channels_last(result.detach()), atol=1e-11)
        dx, d_weights = pull(jnp.asarray(gradient))
        for ours, their in zip((dx, *d_weights), (channels_last(of_x), *gradients), strict=True):
            np.testing.assert_allclose(ours, their, atol=1e-10)


@pytest.mark.parametrize("width", [1, 4, 7, 18])
def test_winograd_is_the_convolution(rng, width):
    x, kernel = rng.standard_normal((2, 6, width, 5)), rng.standard_normal((3, 3, 5, 6))
    expected = channels_last(functional.conv2d(to_torch(x), kernel_to_torch(kernel), padding=(0, 1)))

    def ours(dtype):
        return winograd_rows(jnp.asarray(x, dtype), transform_kernel(jnp.asarray(kernel, dtype)))

    with jax.enable_x64(True):
        np.testing.assert_allclose(ours(np.float64), expected, atol=1e-12)
    np.testing.assert_allclose(ours(np.float32), expected, atol=3e-6 * np.abs(expected).max() + 1e-6)


@pytest.mark.parametrize("many", [1, 1000])  # input gradients by Winograd's products, and directly
@pytest.mark.parametrize(("stride", "strip"), [(1, 1), (1, 300), (1, 9999), (2, 1), (2, 150), (2, 9999)])
def test_quick_gradients_of_a_convolution(rng, monkeypatch, stride, strip, many):
    for name, value in {"_STRIP": strip, "_FEWEST_PIXELS": 1, "_FEWEST_CHANNELS": 1, "_MANY_PRODUCTS": many}.items():
        monkeypatch.setattr(convolution, name, value)
    x, kernel, bias = (rng.standard_normal(shape) for shape in ((2, 20, 18, 3), (3, 3, 3, 5), (5,)))
    gradient = rng.standard_normal((2, 20 // stride, 18 // stride, 5))
    torch_x, torch_kernel = to_torch(x).requires_grad_(), kernel_to_torch(kernel).requires_grad_()
    functional.conv2d(torch_x, torch_kernel, stride=stride, padding=1).backward(to_torch(gradient))
    assert torch_x.grad is not None
    assert torch_kernel.grad is not None
    expected = channels_last(torch_x.grad), torch_kernel.grad.permute(2, 3, 1, 0).numpy(), gradient.sum((0, 1, 2))
    with jax.enable_x64(True):
        given = [jnp.asarray(value) for value in (x, kernel, bias)]
        pull = jax.vjp(lambda x, kernel, bias: convolution.convolve(x, kernel, bias, stride), *given)[1]
        for ours, theirs in zip(pull(jnp.asarray(gradient)), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-11)


@pytest.mark.parametrize("strip", [1, 64, 4096])  # two rows, a number that does not divide the height, all rows
@pytest.mark.parametrize("height", [4, 20])
def test_add_shuffled(rng, monkeypatch, strip, height):
    for name, value in {"CPU_STRIP": strip, "STRIP": strip, "_FEWEST_ROWS": 2}.items():
        monkeypatch.setattr(scales, name, value)
    skip, small = rng.standard_normal((1, height, 12, 4)), rng.standard_normal((1, height // 2, 6, 4))
    kernel, bias = rng.standard_normal((3, 3, 4, 16)), rng.standard_normal(16)
    theirs = [x.requires_grad_() for x in (to_torch(skip), to_torch(small), kernel_to_torch(kernel), to_torch(bias))]
    up = functional.conv2d(theirs[1], theirs[2], theirs[3], padding=1)
    result = theirs[0] + functional.relu(functional.pixel_shuffle(up, 2))
    gradient = rng.standard_normal(skip.shape)
    expected = channels_last(result.detach())
    of_skip, of_small, of_kernel, of_bias = torch.autograd.grad(result, theirs, to_torch(gradient))
    gradients = channels_last(of_skip), channels_last(of_small), of_kernel.permute(2, 3, 1, 0).numpy(), of_bias.numpy()
    with jax.enable_x64(True):
        given = [jnp.asarray(value) for value in (skip, small, kernel, bias)]
        differentiated, pull = jax.vjp(add_shuffled, *given)
        strips = scales._add_shuffled_strips(False, (given[0],), given[1], given[2], given[3])[0]
        for ours in (add_shuffled(*given), differentiated, strips):
            np.testing.assert_allclose(ours, expected, atol=1e-12)
        for ours, their in zip(pull(jnp.asarray(gradient)), gradients, strict=True):
            np.testing.assert_allclose(ours, their, atol=1e-11)


@pytest.mark.parametrize("strip", [1, 250, 4096])
@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5])
def test_merge_scales(rng, monkeypatch, strip, levels):
    monkeypatch.setattr(scales, "CPU_STRIP", strip)
    monkeypatch.setattr(scales, "STRIP", strip)
    features = [rng.standard_normal((1, 64 >> level, 48 >> level, 4)) for level in range(levels)]
    kernel, bias = rng.standard_normal((3, 3, 4 * levels, 4)), rng.standard_normal(4)
    together = [
        functional.interpolate(to_torch(x), scale_factor=2**level, mode="bilinear", align_corners=False)
        for level, x in enumerate(features)
    ]
    expected = functional.conv2d(torch.cat(together, 1), kernel_to_torch(kernel), to_torch(bias), padding=1)
    expected = channels_last(functional.relu(expected))
    with jax.enable_x64(True):
        given = [jnp.asarray(x) for x in features], jnp.asarray(kernel), jnp.asarray(bias)
        for ours in (
            merge_scales(*given),
            jax.vjp(merge_scales, *given)[0],
            scales._merge_strips(False, *given),
        ):
            np.testing.assert_allclose(ours, expected, atol=1e-12)
        cut_every_map(monkeypatch, 10 * strip)
        first, *others = given[0]
        halves = [first / 2, *others], *given[1:], None, first / 2
        for ours in (merge_scales(*given), merge_scales(*halves), jax.vjp(merge_scales, *halves)[0]):
            np.testing.assert_allclose(ours, expected, atol=1e-11)
