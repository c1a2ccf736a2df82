"""One step, several devices: both ways of data parallelism against a single device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


def run(config, way=None, devices=1):
    """Losses and final parameters of 20 steps."""
    schedule = make_schedule(config.train, 1, STEPS)
    optimizer = make_optimizer(config.train, schedule)
    build = functools.partial(make_step, config, optimizer, schedule, prepare)
    dtype = jnp.promote_types(config.train.precision, jnp.float32)
    state, losses = create_state(config, optimizer), []
    if way is None:
        step = jax.jit(build(axis=None))
        for batch in batches(dtype):
            state, metrics = step(state, (), batch)
            losses.append(float(metrics["loss"]))
    else:
        parallel = DataParallel(way, build(), jax.devices()[:devices])
        state, resident = parallel.replicate(state), parallel.replicate(())
        for batch in batches(dtype):
            state, metrics = parallel(state, resident, batch)
            losses.append(float(metrics["loss"]))
    return np.asarray(losses), to_host(state.params)


def largest_difference(first, second):
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


def test_eight_devices_equal_one_in_float64(tiny):
    config = with_train(tiny, precision="float64")
    with jax.enable_x64(True):
        losses, params = run(config)
        assert losses[-1] < losses[0]
        for way in ("pmap", "shard_map"):
            split_losses, split_params = run(config, way, devices=8)
            np.testing.assert_allclose(split_losses, losses, rtol=1e-12)
            assert largest_difference(split_params, params) < 1e-12


def test_eight_devices_give_the_losses_of_one_in_float32(tiny):
    losses, _ = run(tiny)
    for way in ("pmap", "shard_map"):
        np.testing.assert_allclose(run(tiny, way, devices=8)[0], losses, rtol=1e-4)


def test_accumulated_parts_equal_the_whole_batch(tiny):
    with jax.enable_x64(True):
        _, whole = run(with_train(tiny, precision="float64"))
        _, parts = run(with_train(tiny, precision="float64", accumulate=4))
    assert largest_difference(whole, parts) < 1e-12


def test_average_of_the_weights_by_hand(tiny):
    config = with_train(tiny, ema_decay=0.5)
    schedule = make_schedule(config.train, 1, STEPS)
    optimizer = make_optimizer(config.train, schedule)
    state = create_state(config, optimizer)
    first = np.asarray(state.params["fusion"]["residual"]["bias"])
    state, _ = jax.jit(make_step(config, optimizer, schedule, prepare, axis=None))(state, (), next(batches(np.float32)))
    second = np.asarray(state.params["fusion"]["residual"]["bias"])
    np.testing.assert_allclose(state.average["fusion"]["residual"]["bias"], (first + second) / 2, rtol=1e-6)
    assert state.weights is state.average


def test_batch_that_does_not_divide_is_refused_with_the_sizes_that_do():
    with pytest.raises(BatchSizeError, match=r"batch_size is 4.*8 devices; take 8 or 16"):
        check_batch_size(4, 1, 8)
    with pytest.raises(BatchSizeError, match=r"take 8, 16 or 24"):
        check_batch_size(12, 2, 4)
    check_batch_size(16, 2, 8)
