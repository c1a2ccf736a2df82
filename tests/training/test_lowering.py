"""The train step and inference lower for accelerators that are not at hand."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax import export

from multifocal_jax.models import initial_parameters
from multifocal_jax.networks import build_network
from multifocal_jax.training.optimizer import make_optimizer, make_schedule
from multifocal_jax.training.parallel import DataParallel
from multifocal_jax.training.state import create_state
from multifocal_jax.training.step import make_step
from tests.training.helpers import with_train

PLATFORMS = ("cuda", "tpu")


def prepare(resident, batch):
    return batch, batch


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_train_step_lowers_for_cuda_and_tpu(attentive, precision):
    config = with_train(attentive, precision=precision)
    schedule = make_schedule(config.train, 1, 8)
    optimizer = make_optimizer(config.train, schedule)
    step = DataParallel("shard_map", make_step(config, optimizer, schedule, prepare)).step
    shapes = jax.eval_shape(lambda state: state, create_state(config, optimizer))
    exported = export.export(step, platforms=PLATFORMS)(shapes, (), jax.ShapeDtypeStruct((8, 16, 16, 3), jnp.float32))
    assert exported.platforms == PLATFORMS
    assert exported.nr_devices == 8
    module = exported.mlir_module()
    assert "all_reduce" in module
    products = [line for line in module.splitlines() if re.search(r"stablehlo\.(dot_general|convolution)", line)]
    assert products
    if precision == "float32":  # neither TF32 nor bfloat16
        assert all("HIGHEST" in line for line in products)
    else:
        assert "HIGHEST" not in module
        assert sum("bf16" in line for line in products) > len(products) / 2


def test_inference_lowers_for_cuda_and_tpu(attentive):
    network = build_network(attentive.model, dtype=jnp.bfloat16)
    params = {"params": initial_parameters(attentive.model, 0)}
    image = jax.ShapeDtypeStruct((1, 16, 24, 3), jnp.float32)
    assert export.export(jax.jit(network.apply), platforms=PLATFORMS)(params, image).platforms == PLATFORMS
