"""Adam and the learning-rate schedules (section 4.1)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from multifocal_jax.config import TrainConfig

Schedule = Callable[[ArrayLike], jax.Array]


def make_schedule(train: TrainConfig, steps_per_epoch: float, total_steps: int) -> Schedule:
    """Learning rate as a function of the step.

    "step" is the paper's: `learning_rate · decay_factor^⌊epoch / decay_epochs⌋`, 2e-4 halved every 100 epochs. Where
    these end within a step, the nearest one begins with the new rate; the rate changes once a step at most.
    "cosine" falls to zero at `total_steps`; "constant" stays. `warmup_steps` replaces the start by a line from zero.

    Args:
        train: rates, schedule and warm-up.
        steps_per_epoch: training pictures divided by the batch size, not rounded.
        total_steps: length of the run.
    """
    rate = train.learning_rate
    if train.schedule == "step":
        steps = max(train.decay_epochs * steps_per_epoch, 1)

        def schedule(step: ArrayLike) -> jax.Array:
            # Half a step takes the nearest, and keeps whole numbers of steps away from the floor's edge.
            decays = jnp.floor((jnp.asarray(step) + 0.5) / steps).astype(jnp.int32)
            return rate * train.decay_factor**decays

    elif train.schedule == "cosine":
        after_warmup = max(total_steps - train.warmup_steps, 1)

        def schedule(step: ArrayLike) -> jax.Array:
            done = jnp.clip((jnp.asarray(step) - train.warmup_steps) / after_warmup, 0, 1)
            return rate * 0.5 * (1 + jnp.cos(jnp.pi * done))

    else:

        def schedule(step: ArrayLike) -> jax.Array:
            return jnp.full(jnp.shape(step), rate)

    if not train.warmup_steps:
        return schedule

    def with_warmup(step: ArrayLike) -> jax.Array:
        warm = rate * jnp.asarray(step) / train.warmup_steps
        return jnp.where(jnp.asarray(step) < train.warmup_steps, warm, schedule(step))

    return with_warmup


def make_optimizer(train: TrainConfig, schedule: Schedule) -> optax.GradientTransformation:
    """Adam as the paper uses it (equal to PyTorch's: epsilon outside the root), clipping where asked for.

    Args:
        train: betas, epsilon and clipping.
        schedule: of the learning rate, from `make_schedule`.
    """
    adam = optax.adam(schedule, b1=train.beta1, b2=train.beta2, eps=train.epsilon)
    return optax.chain(optax.clip_by_global_norm(train.clip_norm), adam) if train.clip_norm else adam
