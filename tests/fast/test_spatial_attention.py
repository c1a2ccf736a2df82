"""The spatial attention by strips, forward and backward, against the equations' own functions; and by cuDNN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multifocal_jax import ops
from multifocal_jax.fast import band_attention, column_attention, cudnn_attention, spatial_attention
from multifocal_jax.fast.spatial_attention import add_spatial_attention

B, H, W, S, C = 2, 4, 6, 10, 16


def composed(x, kernel, bias, key, value):
    """The spatial CSSAB from its Q projection on, of parts that have tests of their own."""
    query = ops.recalibrate(jnp.einsum("bhwc,cf->bhwf", x, kernel) + bias[None, None, None])
    return x + ops.spatial_attention(ops.spatial_attention_maps(query, key), value)


def random_inputs(rng, height, width):
    shapes = (2, height, width, C), (C, C), (C,), (2, S, C), (2, S, C)
    return [jnp.asarray(rng.standard_normal(shape)) for shape in shapes]


@pytest.mark.parametrize("height", [2, 14, 36])
@pytest.mark.parametrize("strip", [1, 64, 4096])
def test_all_at_once_is_what_the_parts_give(rng, monkeypatch, height, strip):
    # strips of two rows, of eight rows, which do not divide 14 or 36, and of all rows
    monkeypatch.setattr(spatial_attention, "CPU_STRIP", strip)
    monkeypatch.setattr(column_attention, "STRIP", strip)
    with jax.enable_x64(True):
        inputs = random_inputs(rng, height, 8)
        gradient = jnp.asarray(rng.standard_normal((2, height, 8, C)))
        expected, pull_expected = jax.vjp(composed, *inputs)
        out, pull = jax.vjp(add_spatial_attention, *inputs)
        np.testing.assert_allclose(out, expected, atol=1e-12)
        for ours, reference in zip(pull(gradient), pull_expected(gradient), strict=True):
            np.testing.assert_allclose(ours, reference, atol=1e-11)


@pytest.mark.parametrize("strip", [16, 1 << 20])
def test_what_accelerators_run_is_what_the_parts_give(rng, strip):
    with jax.enable_x64(True):
        inputs = random_inputs(rng, 12, 8)
        gradient = jnp.asarray(rng.standard_normal((2, 12, 8, C)))
        expected, pull_expected = jax.vjp(composed, *inputs)
        found = spatial_attention._forward_strips(band_attention, strip, *inputs)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        found = spatial_attention._backward_strips(band_attention, strip, *inputs, gradient)
        for ours, reference in zip(found, pull_expected(gradient), strict=True):
            np.testing.assert_allclose(ours, reference, atol=1e-11)


def test_gradients_equal_finite_differences(rng):
    with jax.enable_x64(True):
        inputs = random_inputs(rng, H, W)
        directions = [jnp.asarray(rng.standard_normal(x.shape)) for x in inputs]
        weights = jnp.asarray(rng.standard_normal((B, H, W, C)))

        def along(step):
            moved = (x + step * d for x, d in zip(inputs, directions, strict=True))
            return jnp.sum(weights * add_spatial_attention(*moved))

        _, pull = jax.vjp(add_spatial_attention, *inputs)
        slope = sum(jnp.sum(g * d) for g, d in zip(pull(weights), directions, strict=True))
        assert float(slope) == pytest.approx(float(along(1e-6) - along(-1e-6)) / 2e-6, rel=1e-6)


def test_cudnn_is_asked_for_the_same_attention(rng, monkeypatch):
    """cuDNN needs a GPU; XLA's implementation of the same call stands in for it here."""
    call = jax.nn.dot_product_attention
    monkeypatch.setattr(jax.nn, "dot_product_attention", lambda *args, implementation, **kw: call(*args, **kw))
    with jax.enable_x64(True):
        shapes = (2, 24, 4), (2, S, 4), (2, S, 4)
        bands = [[jnp.asarray(rng.standard_normal(shape)) for _ in range(4)] for shape in shapes]
        gradient = jnp.asarray(rng.standard_normal((2, 24, 16)))
        found, expected = (jax.vjp(way.attend, *bands) for way in (cudnn_attention, band_attention))
        found, expected = ((out, pull(gradient)) for out, pull in (found, expected))
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)  # JAX's computes the logits in float32


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_cudnn_serves_nothing_without_a_gpu(dtype):
    assert not cudnn_attention.serves(jnp.dtype(dtype), 16)
