"""Parity with PyTorch where it is not installed: against tests/golden/interop/parity.npz.

`python -m tests.golden.interop.make_fixtures` made the file from the PyTorch network.
"""

import importlib.util
import os
from pathlib import Path

import jax
import numpy as np
import pytest

from multifocal_jax.interop.intermediates import blocks, flax_intermediates
from multifocal_jax.interop.names import parameters
from multifocal_jax.weights import flatten
from tests.interop.helpers import VARIANTS, each_variant, samples, seeded_params, seeded_picture, ten_adam_steps

GOLDEN = Path(__file__).parents[1] / "golden" / "interop" / "parity.npz"
# With PyTorch at hand test_torch_parity.py covers the variants, and a few will do here.
STAND_IN = bool(os.environ.get("MULTIFOCAL_NO_TORCH")) or importlib.util.find_spec("torch") is None


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


def test_fixtures_are_small_and_cover_every_variant(golden):
    assert GOLDEN.stat().st_size < 200_000
    assert {name.removesuffix(".blocks") for name in golden if name.endswith(".blocks")} == set(VARIANTS)


@pytest.mark.parametrize("name", each_variant() if STAND_IN else each_variant(("default", "model_1")))
def test_blocks_and_output_are_pytorchs(name, golden):
    config = VARIANTS[name]
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        seen = flax_intermediates(seeded_params(config), config, seeded_picture(0))
    expected = golden[f"{name}.blocks"]
    for block, values in zip(blocks(config), expected, strict=True):
        scale = max(np.abs(seen[block.name]).max(), np.abs(values).max())
        assert np.abs(samples(seen[block.name]) - values).max() < 1e-10 * scale, block.name
    output = golden[f"{name}.output"]
    assert np.abs(seen["output"][:, ::4, ::4] - output).max() < 1e-10 * np.abs(output).max()


def test_gradients_and_ten_adam_steps_are_pytorchs(golden):
    config = VARIANTS["default"]
    gradients, params = map(flatten, ten_adam_steps(config, seeded_params(config)))
    for index, parameter in enumerate(parameters(config)):
        values = golden["gradients"][index]
        # Keys' biases do not matter to the softmax over anchors: zero, but for rounding.
        difference = np.abs(samples(gradients[parameter.flax]) - values).max()
        assert difference < 1e-9 * max(np.abs(values).max(), 1e-6), parameter.flax
        values = golden["after_ten_steps"][index]
        assert np.abs(samples(params[parameter.flax]) - values).max() < 1e-8, parameter.flax
