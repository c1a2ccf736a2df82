"""The seam: both implementations make the same of the same parameters, and the reference serves where one does not."""

import functools

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from multifocal_jax import networks
from multifocal_jax.config import ModelConfig
from multifocal_jax.fast import rows
from multifocal_jax.models import initial_parameters
from multifocal_jax.networks import build_network

# The same program, translated to machine code quickly: compiling is nearly all of these tests' time.
plainly = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

SMALL = functools.partial(ModelConfig, channels=4, modules=1, heads=2, levels=2, spp_sizes=(1, 3))
VARIANTS = [
    SMALL(modules=2),  # which runs in a loop, and is differentiated module by module
    SMALL(modules=0, channel_softmax="query"),
    SMALL(pyramid="gaussian", interaction="convolution", residual_blocks=1),
    SMALL(pyramid="average", interaction="single_scale", projection_kernel=3),
    SMALL(interaction="spatial", levels=3),
    SMALL(interaction="channel", value_projection=False, global_skip=False),
]


@pytest.mark.parametrize("config", VARIANTS)
def test_implementations_agree_and_so_do_their_gradients(rng, config):
    with jax.enable_x64(True):
        params = initial_parameters(config, 0, jnp.float64)
        image, weights = (jnp.asarray(rng.random((2, 16, 24, 3))) for _ in range(2))

        def score(network, params):
            out = network.apply({"params": params}, image)
            return jnp.sum(out * weights), out

        fast, reference = (build_network(config, name, dtype=jnp.float64) for name in ("fast", "reference"))
        expected = plainly(jax.grad(functools.partial(score, reference), has_aux=True))(params)
        # gradients of the modules one after the other, results of the loop over them, alone and in a padded batch
        gradient, _ = plainly(jax.grad(functools.partial(score, fast), has_aux=True))(params)
        alone = plainly(fast.apply)({"params": params}, image)
        batch = np.pad(image, ((0, 0), (0, 8), (0, 8), (0, 0)), constant_values=np.nan)
        of_batch = plainly(fast.apply)({"params": params}, batch, np.array(image.shape[1:3], np.int32))
        for found, wanted in ((gradient, expected[0]), (alone, expected[1]), (of_batch[:, :-8, :-8], expected[1])):
            for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * max(1, float(jnp.abs(theirs).max())))
        assert np.abs(alone - image).max() > 0.01


def test_they_agree_on_large_maps(rng, monkeypatch):
    monkeypatch.setattr(rows, "_LARGE", 4 * 16 * 24)  # as many numbers as the large level has
    monkeypatch.setattr(rows, "_LARGE_STRIP", 4 * 6 * 24)
    config = SMALL(modules=2, residual_blocks=2, levels=3)
    with jax.enable_x64(True):
        params, image = initial_parameters(config, 0, jnp.float64), jnp.asarray(rng.random((1, 16, 24, 3)))
        expected = plainly(build_network(config, "reference", dtype=jnp.float64).apply)({"params": params}, image)
        batch = np.pad(image, ((0, 0), (0, 8), (0, 8), (0, 0)), constant_values=np.nan)
        network = plainly(build_network(config, dtype=jnp.float64).apply)
        ours = network({"params": params}, batch, np.array(image.shape[1:3], np.int32))
        np.testing.assert_allclose(ours[:, :-8, :-8], expected, rtol=0, atol=1e-12)
        assert np.abs(expected - image).max() > 0.01


@pytest.mark.parametrize("condition", [{"devices": 2}, {"open_shape": True}])
def test_the_reference_serves_where_strips_cannot(condition):
    assert build_network(SMALL()).takes_size
    assert not build_network(SMALL(), **condition).takes_size


@pytest.mark.parametrize("name", ["fast", "reference"])
def test_integers_are_refused(name):
    jaxtyping.config.update("jaxtyping_disable", True)  # as outside tests
    try:
        with pytest.raises(ValueError, match=r"batch is uint8; the network takes floats in \[0, 1\]: scale it"):
            build_network(SMALL(), name).apply({"params": {}}, np.zeros((1, 16, 16, 3), np.uint8))
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_there_is_one_table():
    assert set(networks._IMPLEMENTATIONS) == {"fast", "reference"}
    with pytest.raises(KeyError, match="quick"):
        build_network(SMALL(), "quick")
