"""Adam and the learning-rate schedules (section 4.1)."""

import optax

from multifocal_jax.config import TrainConfig

Schedule = optax.Schedule


def make_schedule(train: TrainConfig, steps_per_epoch: float, total_steps: int) -> Schedule:
    """Learning rate as a function of the step.

    "step" is the paper's: `learning_rate · decay_factor^⌊epoch / decay_epochs⌋`, 2e-4 halved every 100 epochs. If these
    end within a step, the nearest step is the first with the new rate; the rate changes at most once per step.
    "cosine" falls to zero at `total_steps`; "constant" does not change. `warmup_steps` starts with a linear increase
    from zero.

    Args:
        train: rates, schedule and warm-up.
        steps_per_epoch: training pictures divided by the batch size, not rounded.
        total_steps: length of the run.
    """
    rate, warmup = train.learning_rate, train.warmup_steps
    after_warmup: Schedule
    if train.schedule == "step":
        steps = max(train.decay_epochs * steps_per_epoch, 1)
        decay = optax.exponential_decay(rate, steps, train.decay_factor, staircase=True)  # pyright: ignore
        # Counted from the start, as epochs are. Half a step takes the nearest, and keeps whole numbers of steps away
        # from the floor's edge.
        after_warmup = lambda step: decay(step + warmup + 0.5)  # noqa: E731
    elif train.schedule == "cosine":
        after_warmup = optax.cosine_decay_schedule(rate, max(total_steps - warmup, 1))
    else:
        after_warmup = optax.constant_schedule(rate)
    if not warmup:
        return after_warmup
    return optax.join_schedules([optax.linear_schedule(0, rate, warmup), after_warmup], [warmup])


def make_optimizer(train: TrainConfig, schedule: Schedule) -> optax.GradientTransformation:
    """Adam as in the paper (equal to PyTorch's: epsilon outside the root), with optional clipping."""
    adam = optax.adam(schedule, b1=train.beta1, b2=train.beta2, eps=train.epsilon)
    return optax.chain(optax.clip_by_global_norm(train.clip_norm), adam) if train.clip_norm else adam
