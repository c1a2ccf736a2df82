"""The kernels for NVIDIA GPUs: interpreted beside SciPy and the plain products, lowered, and done without."""

from functools import partial
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh
from scipy.special import softmax

from multifocal_jax.ops import attention, band_attention, fused_attention, gpu_kernels

BANDS, ANCHORS = 4, 110
INTERPRETED: Any = ModuleType("interpreted")
INTERPRETED.attend = partial(fused_attention.attend, interpret=True)
INTERPRETED.attend_gradients = partial(fused_attention.attend_gradients, interpret=True)


def draw(rng, batch, count, depth=16):
    """Queries, keys and values of every band and a gradient, in bfloat16."""
    shapes = (batch, count, depth), (batch, ANCHORS, depth), (batch, ANCHORS, depth)
    bands = [[jnp.asarray(rng.standard_normal(shape), jnp.bfloat16) for _ in range(BANDS)] for shape in shapes]
    return *bands, jnp.asarray(rng.standard_normal((batch, count, BANDS * depth)), jnp.bfloat16)


def in_float64(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tree)


# 200 = 3 tiles of 64 and a part of one; with few programs several tiles go through each
@pytest.mark.parametrize("fewest_programs", [8, 1024])
@pytest.mark.parametrize(("batch", "count", "depth"), [(2, 200, 16), (1, 4, 16), (1, 64, 32)])
def test_kernels_are_softmax_attention_and_its_gradients(monkeypatch, rng, batch, count, depth, fewest_programs):
    monkeypatch.setattr(fused_attention, "FEWEST_PROGRAMS", fewest_programs)
    queries, keys, values, gradient = draw(rng, batch, count, depth)
    out = INTERPRETED.attend(queries, keys, values)
    gradients = INTERPRETED.attend_gradients(queries, keys, values, gradient)
    with jax.enable_x64(True):
        wide = in_float64((queries, keys, values))
        wide_bands = zip(*jax.tree.map(np.asarray, wide), strict=True)
        expected = [softmax(q @ k.swapaxes(1, 2), axis=-1) @ v for q, k, v in wide_bands]
        np.testing.assert_allclose(np.asarray(out, float), np.concatenate(expected, -1), atol=0.02)
        reference = band_attention.attend_gradients(*wide, in_float64(gradient))
    assert jax.tree.structure(gradients) == jax.tree.structure(reference)
    for ours, theirs in zip(jax.tree.leaves(gradients), jax.tree.leaves(reference), strict=True):
        assert ours.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.asarray(ours, float), theirs, atol=0.01 * float(np.abs(theirs).max()))


@pytest.mark.parametrize("strip", [64, 1 << 20])
def test_spatial_attention_by_the_kernels_is_that_without(rng, strip):
    shapes = (2, 12, 8, 64), (64, 64), (64,), (2, ANCHORS, 64), (2, ANCHORS, 64), (2, 12, 8, 64)
    *given, gradient = (jnp.asarray(rng.uniform(-0.3, 0.3, shape), jnp.bfloat16) for shape in shapes)
    ours, theirs = (
        (attention._forward_strips(bands, strip, *given), attention._backward_strips(bands, strip, *given, gradient))
        for bands in (INTERPRETED, band_attention)
    )
    for found, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        found, expected = (np.asarray(x, float) for x in (found, expected))
        np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")
def test_kernels_lower_for_nvidia_gpus(rng):
    queries, keys, values, gradient = draw(rng, 2, 1024)
    target = "__gpu$xla.gpu.triton"
    lower = partial(export.export, platforms=["cuda"], disabled_checks=[export.DisabledSafetyCheck.custom_call(target)])
    with use_abstract_mesh(AbstractMesh((), (), abstract_device=AbstractDevice("NVIDIA H200", None, "gpu"))):
        forward = lower(jax.jit(fused_attention.attend))(queries, keys, values)
        backward = lower(jax.jit(fused_attention.attend_gradients))(queries, keys, values, gradient)
    for exported in (forward, backward):
        assert exported.mlir_module().count(f"stablehlo.custom_call @{target}") == 1


def test_a_computation_without_a_gpu_does_without_the_kernels():
    assert gpu_kernels.find_fused_attention(jnp.bfloat16, 16) is None


def test_a_gpu_that_fails_at_the_kernels_does_without_them(monkeypatch, caplog):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    gpu_kernels._try_fused_attention.cache_clear()
    assert gpu_kernels.find_fused_attention(jnp.bfloat16, 16) is None
    assert "the GPU kernel of the attention is not used, as it fails here: ValueError: Only interpret" in caplog.text
    gpu_kernels._try_fused_attention.cache_clear()


def test_a_gpu_whose_kernels_agree_uses_them_where_they_fit(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for name in ("attend", "attend_gradients"):
        monkeypatch.setattr(fused_attention, name, getattr(INTERPRETED, name))
    gpu_kernels._try_fused_attention.cache_clear()
    find = gpu_kernels.find_fused_attention
    assert jax.jit(lambda x: x if find(jnp.bfloat16, 16) is fused_attention else -x)(1.0) == 1  # tried while tracing
    assert find(jnp.float32, 16) is None
    assert find(jnp.bfloat16, 24) is None
    monkeypatch.setenv("MULTIFOCAL_GPU_KERNELS", "off")
    assert find(jnp.bfloat16, 16) is None
    gpu_kernels._try_fused_attention.cache_clear()


def test_kernels_that_compute_something_else_are_not_used(monkeypatch, caplog):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(fused_attention, "attend", lambda *bands: 1.1 * band_attention.attend(*bands))
    monkeypatch.setattr(fused_attention, "attend_gradients", band_attention.attend_gradients)
    gpu_kernels._try_fused_attention.cache_clear()
    assert gpu_kernels.find_fused_attention(jnp.bfloat16, 16) is None
    assert "ArithmeticError: off by" in caplog.text
    gpu_kernels._try_fused_attention.cache_clear()
