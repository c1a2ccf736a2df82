"""One program for many sizes, in float64, against the reference on the pictures alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from multifocal_jax.config import ModelConfig
from multifocal_jax.fast import derain
from multifocal_jax.models import MultifocalNet, initial_parameters


def test_from_the_smallest_size_to_the_whole(rng):
    config = ModelConfig(channels=8, modules=1)
    with jax.enable_x64(True):
        variables = {"params": initial_parameters(config, 0, jnp.float64)}
        program = jax.jit(functools.partial(derain, config, jnp.float64))
        plainly = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
        reference = plainly(MultifocalNet(config, jnp.float64, jnp.float64).apply)
        for height, width in [(8, 8), (56, 64), (64, 64)]:
            picture = rng.random((2, height, width, 3))
            batch = np.full((2, 64, 64, 3), np.nan)
            batch[:, :height, :width] = picture
            result = np.asarray(program(variables, batch, np.array([height, width], np.int32)))
            expected = np.asarray(reference(variables, picture))
            assert np.abs(expected - picture).max() > 0.01
            np.testing.assert_allclose(result[:, :height, :width], expected, rtol=0, atol=1e-12)
