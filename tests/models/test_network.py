import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multifocal_jax.config import ModelConfig
from multifocal_jax.models import MultifocalNet, initial_parameters
from multifocal_jax.models.layers import Block

SMALL = ModelConfig(channels=8, modules=1, heads=2)
compiled = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # one run repays no more


@pytest.fixture(scope="module")
def variables():
    return initial(SMALL)


def initial(config):
    return {"params": initial_parameters(config, 0)}


def apply(config, *arguments, **kwargs):
    return compiled(functools.partial(MultifocalNet(config).apply, **kwargs))(*arguments)


def test_output_is_the_input_less_the_residual(variables, rng):
    image = jnp.asarray(rng.random((2, 16, 24, 3)), jnp.float32)
    derained, captured = apply(SMALL, variables, image, mutable=["intermediates"])
    (residual,) = captured["intermediates"]["residual"]
    np.testing.assert_allclose(derained, image - residual, atol=1e-6)
    np.testing.assert_allclose(derained, apply(SMALL, variables, image), atol=1e-6)


def test_intermediates_have_names_and_shapes(variables):
    _, captured = apply(SMALL, variables, jnp.zeros((1, 16, 24, 3)), mutable=["intermediates"])
    found = captured["intermediates"]
    assert found["entrance"]["pyramid"]["level_2"][0].shape == (1, 4, 6, 3)
    assert found["entrance"]["spatial"]["level_0"]["maps"][0].shape == (1, 4, 16, 24, 110)
    assert found["module_0"]["channel"]["level_1"]["maps"][0].shape == (1, 2, 4, 4)
    assert [x.shape for x in found["module_0_features"][0]] == [(1, 16, 24, 8), (1, 8, 12, 8), (1, 4, 6, 8)]


def test_intermediates_cost_nothing_when_not_asked_for(variables, monkeypatch):
    def program():
        return jax.jit(MultifocalNet(SMALL).apply).lower(variables, jnp.zeros((1, 16, 16, 3))).as_text()

    as_it_is = program()
    monkeypatch.setattr(Block, "capture", lambda self, **tensors: None)
    assert program() == as_it_is


@pytest.mark.parametrize("shape", [(16, 16, 3), (1, 12, 16, 3), (1, 16, 20, 3), (1, 16, 16, 4)])
def test_other_shapes_are_refused_with_the_way_out(variables, shape):
    with pytest.raises(ValueError, match="multiples of 8"):
        jax.eval_shape(MultifocalNet(SMALL).apply, variables, jnp.zeros(shape))


def test_weights_start_within_pytorchs_bounds(variables):
    kernel = variables["params"]["module_0"]["up_0"]["kernel"]
    bound = 1 / np.sqrt(3 * 3 * 8)  # 1 / √fan_in
    assert np.abs(kernel).max() <= bound
    assert np.std(kernel) == pytest.approx(bound / np.sqrt(3), rel=0.05)  # of a uniform distribution
    assert np.abs(variables["params"]["module_0"]["up_0"]["bias"]).max() > 0


@pytest.mark.parametrize(
    "change",
    [
        {"pyramid": "gaussian"},
        {"pyramid": "average"},
        {"interaction": "single_scale"},
        {"interaction": "convolution"},
        {"interaction": "spatial"},
        {"interaction": "channel"},
        {"residual_blocks": 1},
        {"projection_kernel": 3},
        {"channel_softmax": "query"},
        {"value_projection": False},
        {"global_skip": False},
        {"levels": 1},
        {"levels": 2},
        {"modules": 0},
        {"spp_sizes": (1, 2)},
    ],
)
def test_every_switch_runs_and_matters(variables, rng, change):
    image = jnp.asarray(rng.random((1, 16, 16, 3)), jnp.float32)
    config = dataclasses.replace(SMALL, **change)
    own = initial(config)
    result = apply(config, own, image)
    assert bool(jnp.all(jnp.isfinite(result)))
    if jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, variables):  # then the computation must differ
        assert not np.allclose(result, apply(SMALL, own, image), atol=1e-7)


def test_bfloat16_computes_close_to_float32(variables, rng):
    image = jnp.asarray(rng.random((1, 16, 16, 3)), jnp.float32)
    half = compiled(MultifocalNet(SMALL, dtype=jnp.bfloat16).apply)(variables, image)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, apply(SMALL, variables, image), atol=0.03)
