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


# 200 are 3 tiles of 64 and a part of one. With one program for all, several tiles go through each, and of 1,100 the
# second has only a part of its second tile, and nothing in the other fourteen.
@pytest.mark.parametrize("fewest_programs", [1, 1024])
@pytest.mark.parametrize(("batch", "count", "depth"), [(2, 200, 16), (1, 1100, 16), (1, 4, 16), (1, 64, 32)])
def test_kernels_are_softmax_attention_and_its_gradients(rng, batch, count, depth, fewest_programs):
    queries, keys, values, gradient = draw(rng, batch, count, depth)
    out = INTERPRETED.attend(queries, keys, values, fewest_programs=fewest_programs)
    gradients = INTERPRETED.attend_gradients(queries, keys, values, gradient, fewest_programs=fewest_programs)
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


@pytest.fixture
def gpu(monkeypatch):
    """A CPU that is taken for a GPU."""
    monkeypatch.setattr(gpu_kernels, "_nvidia_gpu", lambda: jax.local_devices()[0])
    monkeypatch.setattr(gpu_kernels, "_failed", [])
    gpu_kernels._try_fused_attention.cache_clear()
    yield
    gpu_kernels._try_fused_attention.cache_clear()


def test_a_machine_without_a_gpu_does_without_the_kernels():
    assert gpu_kernels.find_fused_attention(jnp.bfloat16, 16, ANCHORS) is None
    assert gpu_kernels.failures() == ()


def test_a_gpu_that_fails_at_the_kernels_does_without_them(gpu, caplog):
    assert gpu_kernels.find_fused_attention(jnp.float32, 16, ANCHORS) is None
    assert gpu_kernels.failures() == ()  # not even tried
    assert gpu_kernels.find_fused_attention(jnp.bfloat16, 16, ANCHORS) is None
    assert "the GPU kernel of the attention is not used, as it fails here: ValueError: Only interpret" in caplog.text
    assert gpu_kernels.failures() == ("ValueError: Only interpret mode is supported on CPU backend.",)


def test_a_gpu_whose_kernels_agree_uses_them_where_they_suit(gpu, monkeypatch):
    for name in ("attend", "attend_gradients"):
        monkeypatch.setattr(fused_attention, name, getattr(INTERPRETED, name))
    find = gpu_kernels.find_fused_attention
    tried = jax.jit(lambda x: x if find(jnp.bfloat16, 16, ANCHORS) is fused_attention else -x)(1.0)
    assert tried == 1  # while the network is traced
    assert find(jnp.bfloat16, 32, 128) is fused_attention
    assert find(jnp.float32, 16, ANCHORS) is None
    assert find(jnp.bfloat16, 24, ANCHORS) is None
    assert find(jnp.bfloat16, 16, 129) is None
    monkeypatch.setenv("MULTIFOCAL_GPU_KERNELS", "off")
    assert find(jnp.bfloat16, 16, ANCHORS) is None
    monkeypatch.setenv("MULTIFOCAL_GPU_KERNELS", "untried")
    monkeypatch.setattr(gpu_kernels, "_nvidia_gpu", lambda: None)
    assert find(jnp.bfloat16, 16, ANCHORS) is fused_attention
    monkeypatch.delenv("MULTIFOCAL_GPU_KERNELS")
    assert find(jnp.bfloat16, 16, ANCHORS) is None


def test_kernels_that_compute_something_else_are_not_used(gpu, monkeypatch, caplog):
    def double(*bands, fewest_programs):
        return 2 * band_attention.attend(*bands)

    monkeypatch.setattr(fused_attention, "attend", double)
    monkeypatch.setattr(fused_attention, "attend_gradients", INTERPRETED.attend_gradients)
    assert gpu_kernels.find_fused_attention(jnp.bfloat16, 16, ANCHORS) is None
    assert "ArithmeticError: off by" in caplog.text
