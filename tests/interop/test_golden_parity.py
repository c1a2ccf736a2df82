"""Parity with PyTorch where it is not installed: against tests/golden/interop/parity.npz.

`python -m tests.golden.interop.make_fixtures` made the file from the PyTorch network.
"""

import functools
import importlib.util
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from multifocal_jax.config import TrainConfig
from multifocal_jax.interop.intermediates import blocks, flax_intermediates
from multifocal_jax.interop.names import parameters
from multifocal_jax.models import MultifocalNet
from multifocal_jax.training.optimizer import make_optimizer, make_schedule
from multifocal_jax.weights import flatten
from tests.interop.interop_variants import VARIANTS, each_variant
from tests.interop.seeded import samples, seeded_params, seeded_picture

GOLDEN = Path(__file__).parents[1] / "golden" / "interop" / "parity.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture
def float64():
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        yield


def test_fixtures_are_small_and_cover_every_variant(golden):
    assert GOLDEN.stat().st_size < 200_000
    assert {name.removesuffix(".blocks") for name in golden if name.endswith(".blocks")} == set(VARIANTS)


# With PyTorch at hand test_torch_parity.py covers the variants, and a few will do here.
STAND_IN = bool(os.environ.get("MULTIFOCAL_NO_TORCH")) or importlib.util.find_spec("torch") is None


@pytest.mark.parametrize("name", each_variant() if STAND_IN else each_variant(("default", "model_1")))
@pytest.mark.usefixtures("float64")
def test_blocks_and_output_are_pytorchs(name, golden):
    config = VARIANTS[name]
    seen = flax_intermediates(seeded_params(config), config, seeded_picture(0))
    expected = golden[f"{name}.blocks"]
    for block, values in zip(blocks(config), expected, strict=True):
        scale = max(np.abs(seen[block.name]).max(), np.abs(values).max())
        assert np.abs(samples(seen[block.name]) - values).max() < 1e-10 * scale, block.name
    output = golden[f"{name}.output"]
    assert np.abs(seen["output"][:, ::4, ::4] - output).max() < 1e-10 * np.abs(output).max()


@pytest.mark.usefixtures("float64")
def test_gradients_and_ten_adam_steps_are_pytorchs(golden):
    config = VARIANTS["default"]
    network = MultifocalNet(config, dtype=jnp.float64, param_dtype=jnp.float64)
    params = seeded_params(config)
    train = TrainConfig(decay_epochs=2)
    optimizer = make_optimizer(train, make_schedule(train, steps_per_epoch=2, total_steps=10))
    state = optimizer.init(params)

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def step(params, state, rainy, clean):
        gradients = jax.grad(lambda p: jnp.mean(jnp.abs(network.apply({"params": p}, rainy) - clean)))(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, gradients

    for index in range(10):
        rainy, clean = (jnp.asarray(seeded_picture(2 * index + end)) for end in (0, 1))
        params, state, gradients = step(params, state, rainy, clean)
        if index == 0:
            flat = flatten(gradients)
            for parameter, values in zip(parameters(config), golden["gradients"], strict=True):
                # Keys' biases do not matter to the softmax over anchors: zero, but for rounding.
                difference = np.abs(samples(flat[parameter.flax]) - values).max()
                assert difference < 1e-9 * max(np.abs(values).max(), 1e-6), parameter.flax
    flat = flatten(params)
    for parameter, values in zip(parameters(config), golden["after_ten_steps"], strict=True):
        assert np.abs(samples(flat[parameter.flax]) - values).max() < 1e-8, parameter.flax
