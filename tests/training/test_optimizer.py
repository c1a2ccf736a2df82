import jax.numpy as jnp
import numpy as np
import pytest

from multifocal_jax.config import ExperimentConfig, TrainConfig
from multifocal_jax.training.loop import total_steps
from multifocal_jax.training.optimizer import make_optimizer, make_schedule

UNIT = {"learning_rate": 1.0}


@pytest.mark.parametrize(
    ("train", "steps_per_epoch", "total", "rates"),
    [
        # the paper's: halved every 100 epochs of 450 steps
        ({}, 450, 315_000, {0: 2e-4, 44_999: 2e-4, 45_000: 1e-4, 89_999: 1e-4, 90_000: 5e-5, 314_999: 3.125e-6}),
        # 1800 pictures in batches of 256: 100 epochs end after 703.125 steps, 400 after 2812.5, 600 after 4218.75;
        # rounded once and multiplied the latter would be 2812 and 4218
        (UNIT, 1800 / 256, 4922, {702: 1, 703: 1 / 2}),
        (UNIT, 1800 / 256, 4922, {2811: 1 / 8, 2812: 1 / 16, 2813: 1 / 16, 4218: 1 / 32, 4219: 1 / 64}),
        # an epoch is less than a third of a step; epochs end after 1.25, 2.5, 3.75, 5 steps; after 2.5 and 5 steps
        (UNIT | {"decay_epochs": 1}, 5 / 16, 100, {0: 1, 1: 1 / 2, 2: 1 / 4, 3: 1 / 8}),
        (UNIT | {"decay_epochs": 1}, 5 / 4, 100, {0: 1, 1: 1 / 2, 2: 1 / 4, 3: 1 / 4, 4: 1 / 8, 5: 1 / 16}),
        (UNIT | {"decay_epochs": 1}, 5 / 2, 100, {0: 1, 1: 1, 2: 1 / 2, 3: 1 / 2, 4: 1 / 2, 5: 1 / 4}),
        # the warm-up shifts no epoch: these are of 4 steps, counted from the start
        (
            UNIT | {"decay_epochs": 1, "warmup_steps": 4},
            4,
            100,
            {0: 0, 1: 1 / 4, 2: 1 / 2, 3: 3 / 4, 4: 1 / 2, 5: 1 / 2, 6: 1 / 2, 7: 1 / 2, 8: 1 / 4},
        ),
        (UNIT | {"schedule": "cosine", "warmup_steps": 10}, 1, 110, {0: 0, 5: 0.5, 10: 1, 60: 0.5, 110: 0}),
        ({"schedule": "constant"}, 1, 10, {7: 2e-4}),
    ],
)
def test_rates_by_hand(train, steps_per_epoch, total, rates):
    schedule = make_schedule(TrainConfig(**train), steps_per_epoch, total)
    absolute = 1e-6 * TrainConfig(**train).learning_rate
    assert [float(schedule(step)) for step in rates] == pytest.approx(list(rates.values()), rel=1e-6, abs=absolute)


@pytest.mark.parametrize(("train", "steps"), [({}, 315_000), ({"batch_size": 256}, 4922)])
def test_paper_length(train, steps):
    assert total_steps(ExperimentConfig(train=TrainConfig(**train)), 1800) == steps  # 700 epochs of Rain200H


def test_first_adam_step_by_hand():
    # after bias correction the first update is lr · g / (|g| + ε)
    optimizer = make_optimizer(TrainConfig(), make_schedule(TrainConfig(), 450, 315_000))
    params = {"w": jnp.array([1.0, 1.0, 1.0])}
    grads = {"w": jnp.array([0.5, -2.0, 1e-8])}
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_allclose(updates["w"], [-2e-4, 2e-4, -1e-4], rtol=1e-4)


def test_clipping_scales_to_the_norm():
    train = TrainConfig(clip_norm=1.0, epsilon=1.0, beta1=0.0, beta2=0.0)
    optimizer = make_optimizer(train, make_schedule(train, 1, 1))
    params = {"w": jnp.zeros(2)}
    updates, _ = optimizer.update({"w": jnp.array([3.0, 4.0])}, optimizer.init(params), params)
    clipped = np.array([0.6, 0.8])  # (3, 4) / 5
    np.testing.assert_allclose(updates["w"], -2e-4 * clipped / (clipped + 1), rtol=1e-5)


def test_off_by_default():
    paper = TrainConfig()
    assert (paper.clip_norm, paper.ema_decay, paper.warmup_steps, paper.frequency_weight) == (0.0, 0.0, 0, 0.0)
    assert paper.accumulate == 1
