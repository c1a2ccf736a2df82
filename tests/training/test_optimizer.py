import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

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


@pytest.fixture
def kernels():
    """Gradients for two kernels of one shape, one of another, and a bias."""
    rng = np.random.default_rng(0)
    shapes = {"a": (3, 3, 4, 8), "b": (3, 3, 4, 8), "c": (1, 1, 16, 4), "bias": (8,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_muon_levels_the_singular_values(kernels):
    """Five iterations of the published polynomial bring every singular value to about 0.68 to 1.13."""
    train = TrainConfig(optimizer="muon", learning_rate=0.5, schedule="constant")
    optimizer = make_optimizer(train, make_schedule(train, 1, 1))
    updates, _ = optimizer.update(kernels, optimizer.init(kernels), kernels)
    for name, larger in (("a", 36), ("b", 36), ("c", 16)):
        size = 0.5 * 0.2 * np.sqrt(larger)  # rate · 0.2 · √(the larger side)
        columns = kernels[name].shape[-1]
        left, _, right = np.linalg.svd(kernels[name].reshape(-1, columns), full_matrices=False)
        values = -left.T @ np.asarray(updates[name]).reshape(-1, columns) @ right.T / size
        assert np.all((np.diag(values) > 0.65) & (np.diag(values) < 1.2)), values
        np.testing.assert_allclose(values, np.diag(np.diag(values)), atol=1e-4)
    # Nesterov's Adam: (β·(1 − β)·g / (1 − β²) + g) / |g| = ±(1 + 0.9 / 1.9)
    np.testing.assert_allclose(updates["bias"], -0.5 * np.sign(kernels["bias"]) * (1 + 0.9 / 1.9), rtol=1e-5)


def test_muon_against_pytorch(kernels):
    """Of one gradient, so that the bias correction that PyTorch leaves out does not matter; it iterates in bfloat16."""
    del kernels["bias"]
    train = TrainConfig(optimizer="muon", learning_rate=0.1, schedule="constant", momentum=0.9)
    optimizer = make_optimizer(train, make_schedule(train, 1, 1))
    params = {name: np.zeros_like(value) for name, value in kernels.items()}
    matrices = {name: value.reshape(-1, value.shape[-1]) for name, value in kernels.items()}
    theirs = {name: torch.zeros(value.shape, requires_grad=True) for name, value in matrices.items()}
    options = {"weight_decay": 0.0, "momentum": 0.9, "adjust_lr_fn": "match_rms_adamw"}
    muon = torch.optim.Muon(list(theirs.values()), lr=0.1, **options)
    state = optimizer.init(params)
    for _ in range(3):
        updates, state = optimizer.update(kernels, state, params)
        params = optax.apply_updates(params, updates)
        for name, tensor in theirs.items():
            tensor.grad = torch.from_numpy(matrices[name])
        muon.step()
    for name, tensor in theirs.items():
        ours, wanted = np.asarray(params[name]).reshape(matrices[name].shape), tensor.detach().numpy()
        assert np.linalg.norm(ours - wanted) < 0.03 * np.linalg.norm(wanted)


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
