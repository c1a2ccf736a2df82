import jax.numpy as jnp
import numpy as np
import pytest

from multifocal_jax.config import TrainConfig
from multifocal_jax.training.loop import total_steps
from multifocal_jax.training.optimizer import make_optimizer, make_schedule


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 2e-4), (44_999, 2e-4), (45_000, 1e-4), (89_999, 1e-4), (90_000, 5e-5), (314_999, 3.125e-6)]
)
def test_paper_schedule_halves_every_100_epochs_of_450_steps(step, rate):
    assert float(make_schedule(TrainConfig(), 450, 315_000)(step)) == pytest.approx(rate, rel=1e-6)


def test_epochs_that_are_no_whole_number_of_steps():
    # 1800 pictures in batches of 256: 100 epochs end after 703.125 steps
    schedule = make_schedule(TrainConfig(), 1800 / 256, 4922)
    assert [float(schedule(step)) for step in (702, 703)] == pytest.approx([2e-4, 1e-4])


def test_boundaries_within_a_step_do_not_add_up():
    # 2812.5 steps are 400 epochs, 4218.75 are 600; rounded once and multiplied they would be 2812 and 4218
    schedule = make_schedule(TrainConfig(), 1800 / 256, 4922)
    steps = [2811, 2812, 2813, 4218, 4219]
    assert [float(schedule(step)) / 2e-4 for step in steps] == pytest.approx([1 / 8, 1 / 16, 1 / 16, 1 / 32, 1 / 64])


@pytest.mark.parametrize(
    ("pictures", "batch_size", "rates"),
    [
        (5, 16, [1, 1 / 2, 1 / 4, 1 / 8]),  # an epoch is less than a third of a step
        (5, 4, [1, 1 / 2, 1 / 4, 1 / 4, 1 / 8, 1 / 16]),  # epochs end after 1.25, 2.5, 3.75, 5 steps
        (5, 2, [1, 1, 1 / 2, 1 / 2, 1 / 2, 1 / 4]),  # after 2.5 and 5 steps
    ],
)
def test_epochs_of_few_steps(pictures, batch_size, rates):
    train = TrainConfig(decay_epochs=1, learning_rate=1.0, batch_size=batch_size)
    schedule = make_schedule(train, pictures / batch_size, 100)
    assert [float(schedule(step)) for step in range(len(rates))] == pytest.approx(rates)


def test_paper_length(tiny):
    import dataclasses

    paper = dataclasses.replace(tiny, train=TrainConfig())
    assert total_steps(paper, 1800) == 315_000  # 700 epochs of Rain200H
    assert total_steps(dataclasses.replace(tiny, train=TrainConfig(batch_size=256)), 1800) == 4922  # 1.26 million crops


def test_cosine_with_warmup_by_hand():
    schedule = make_schedule(TrainConfig(schedule="cosine", learning_rate=1.0, warmup_steps=10), 1, 110)
    expected = {0: 0.0, 5: 0.5, 10: 1.0, 60: 0.5, 110: 0.0}
    assert [float(schedule(step)) for step in expected] == pytest.approx(list(expected.values()), abs=1e-6)


def test_the_warm_up_shifts_no_epoch():
    # 0, 1/4, 1/2, 3/4 of the rate; then epochs of 4 steps are counted from the start: 1/2 from step 4, 1/4 from step 8
    train = TrainConfig(learning_rate=1.0, decay_epochs=1, warmup_steps=4)
    schedule = make_schedule(train, 4, 100)
    expected = [0, 1 / 4, 1 / 2, 3 / 4, 1 / 2, 1 / 2, 1 / 2, 1 / 2, 1 / 4]
    assert [float(schedule(step)) for step in range(9)] == pytest.approx(expected)


def test_constant():
    assert float(make_schedule(TrainConfig(schedule="constant"), 1, 10)(7)) == pytest.approx(2e-4)


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
    assert (paper.clip_norm, paper.ema_decay, paper.warmup_steps, paper.frequency_weight, paper.accumulate) == (
        0.0,
        0.0,
        0,
        0.0,
        1,
    )
