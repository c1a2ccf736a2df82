"""One step, several devices: both ways of data parallelism against a single device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multifocal_jax.models import initial_parameters
from multifocal_jax.training.optimizer import make_optimizer, make_schedule
from multifocal_jax.training.parallel import BatchSizeError, DataParallel, check_batch_size, to_host
from multifocal_jax.training.state import create_state
from multifocal_jax.training.step import make_step
from tests.training.helpers import with_train

STEPS = 20


def prepare(resident, batch):
    return batch["rainy"], batch["clean"]


def batches(dtype):
    rng = np.random.default_rng(1)
    for _ in range(STEPS):
        clean = rng.random((8, 8, 8, 3)).astype(dtype)
        yield {"rainy": np.clip(clean + 0.3 * rng.random(clean.shape), 0, 1).astype(dtype), "clean": clean}


def run(config, way=None):
    """Losses and final parameters of 20 steps on eight devices or, if no way is given, on one; and the first state.

    All start from the same float32 parameters.
    """
    schedule = make_schedule(config.train, 1, STEPS)
    optimizer = make_optimizer(config.train, schedule)
    dtype = jnp.promote_types(config.train.precision, jnp.float32)
    with jax.enable_x64(dtype == jnp.float64):
        state, losses, first = create_state(config, optimizer, initial_parameters(config.model, 0)), [], None
        make = functools.partial(make_step, config, optimizer, schedule, prepare)
        if way is None:
            # the reference is for its results alone
            step = jax.jit(make(axis=None), compiler_options={"xla_backend_optimization_level": 0})
        else:
            step = DataParallel(way, make(), jax.devices()[:8])
            state = step.replicate(state)
        for batch in batches(dtype):
            state, metrics = step(state, (), batch)
            losses.append(float(metrics["loss"]))
            first = first or to_host(state)
        return np.asarray(losses), to_host(state.params), first


@pytest.fixture(scope="module")
def alone(attentive):
    """A single device in float64."""
    return run(with_train(attentive, precision="float64"))


def largest_difference(first, second):
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


@pytest.mark.parametrize("way", ["pmap", "shard_map"])
def test_eight_devices_equal_one_in_float64(attentive, alone, way):
    losses, params, _ = alone
    assert losses[-1] < losses[0]
    split_losses, split_params, _ = run(with_train(attentive, precision="float64"), way)
    np.testing.assert_allclose(split_losses, losses, rtol=1e-12)
    assert largest_difference(split_params, params) < 1e-12


@pytest.mark.parametrize("way", ["pmap", "shard_map"])
def test_eight_devices_give_the_losses_of_one_in_float32(attentive, alone, way):
    np.testing.assert_allclose(run(attentive, way)[0], alone[0], rtol=1e-4)


def test_accumulated_parts_equal_the_whole_batch_and_weights_are_averaged(attentive, alone):
    _, parts, first = run(with_train(attentive, precision="float64", accumulate=4, ema_decay=0.5))
    assert largest_difference(parts, alone[1]) < 1e-12
    before = np.asarray(initial_parameters(attentive.model, 0)["fusion"]["residual"]["bias"])
    after = first.params["fusion"]["residual"]["bias"]
    np.testing.assert_allclose(first.average["fusion"]["residual"]["bias"], (before + after) / 2, rtol=1e-6)
    assert first.weights is first.average


def test_batch_that_does_not_divide_is_refused_with_the_sizes_that_do():
    with pytest.raises(BatchSizeError, match=r"batch_size is 4.*8 devices; take 8 or 16"):
        check_batch_size(4, 1, 8)
    with pytest.raises(BatchSizeError, match=r"take 8, 16 or 24"):
        check_batch_size(12, 2, 4)
    check_batch_size(16, 2, 8)
