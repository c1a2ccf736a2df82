"""The train step and inference lower for accelerators that are not at hand."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from jax import export
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from multifocal_jax.models import MultifocalNet, initial_parameters
from multifocal_jax.training.optimizer import make_optimizer, make_schedule
from multifocal_jax.training.parallel import DataParallel
from multifocal_jax.training.state import create_state
from multifocal_jax.training.step import make_step

PLATFORMS = ("cuda", "tpu")


def prepare(resident, batch):
    return batch, batch


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_train_step_lowers_for_cuda_and_tpu(tiny, precision):
    config = dataclasses.replace(tiny, train=dataclasses.replace(tiny.train, precision=precision))
    schedule = make_schedule(config.train, 1, 8)
    optimizer = make_optimizer(config.train, schedule)
    step = DataParallel("shard_map", make_step(config, optimizer, schedule, prepare)).step
    shapes = jax.eval_shape(lambda state: state, create_state(config, optimizer))
    exported = export.export(step, platforms=PLATFORMS)(shapes, (), jax.ShapeDtypeStruct((8, 16, 16, 3), jnp.float32))
    assert exported.platforms == PLATFORMS
    assert exported.nr_devices == 8
    assert "all_reduce" in exported.mlir_module()


def test_inference_lowers_for_cuda_and_tpu(tiny):
    network = MultifocalNet(tiny.model, dtype=jnp.bfloat16)
    params = {"params": initial_parameters(network, 0)}
    image = jax.ShapeDtypeStruct((1, 16, 24, 3), jnp.float32)
    assert export.export(jax.jit(network.apply), platforms=PLATFORMS)(params, image).platforms == PLATFORMS


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")
def test_gradients_lower_with_the_kernels_for_gpus(tiny, monkeypatch):
    monkeypatch.setenv("MULTIFOCAL_GPU_KERNELS", "untried")
    model = dataclasses.replace(tiny.model, channels=64, modules=1)
    network = MultifocalNet(model, dtype=jnp.bfloat16)
    params = {"params": initial_parameters(network, 0)}
    gradients = jax.jit(jax.grad(lambda params, image: network.apply(params, image).mean()))
    triton = export.DisabledSafetyCheck.custom_call("__gpu$xla.gpu.triton")
    with use_abstract_mesh(AbstractMesh((), (), abstract_device=AbstractDevice("NVIDIA H200", None, "gpu"))):
        lower = export.export(gradients, platforms=["cuda"], disabled_checks=[triton])
        program = lower(params, jax.ShapeDtypeStruct((1, 16, 24, 3), jnp.float32)).mlir_module()
    attentions = model.levels * (1 + model.modules)
    assert program.count("stablehlo.custom_call @__gpu$xla.gpu.triton") == 2 * attentions
