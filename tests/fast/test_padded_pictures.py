"""One program for many sizes: the network on padded pictures against itself on the pictures alone, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multifocal_jax.config import ModelConfig
from multifocal_jax.fast import derain
from multifocal_jax.models import initial_parameters

SMALL = functools.partial(ModelConfig, channels=4, modules=1, heads=1, levels=2, spp_sizes=(1, 3))


def on_padded_and_alone(config, shape, sizes):
    """Results of both ways for pictures of these sizes in the corner of a batch of NaN."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        variables = {"params": initial_parameters(config, 0, jnp.float64)}
        apply = jax.jit(functools.partial(derain, config, jnp.float64))
        for height, width in sizes:
            picture = rng.random((2, height, width, 3))
            padded = np.full((2, *shape, 3), np.nan)
            padded[:, :height, :width] = picture
            result = np.asarray(apply(variables, padded, np.array([height, width], np.int32)))
            alone = np.asarray(apply(variables, picture))
            assert np.abs(alone - picture).max() > 0.01
            yield result[:, :height, :width], alone


def test_from_the_smallest_size_to_the_whole():
    config = ModelConfig(channels=8, modules=1)
    for ours, alone in on_padded_and_alone(config, (64, 64), [(8, 8), (56, 64), (64, 64)]):
        np.testing.assert_allclose(ours, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "config",
    [
        SMALL(pyramid="gaussian", interaction="convolution", residual_blocks=1),
        SMALL(pyramid="average", interaction="single_scale", projection_kernel=3),
        SMALL(interaction="spatial", modules=2),
        SMALL(interaction="channel", global_skip=False, value_projection=False),
    ],
)
def test_every_switch(config):
    ((ours, alone),) = on_padded_and_alone(config, (32, 32), [(24, 16)])
    np.testing.assert_allclose(ours, alone, rtol=0, atol=1e-12)
