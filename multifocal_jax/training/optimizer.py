"""Adam and the learning-rate schedules (section 4.1), and Muon.

Muon, which the paper does not use, replaces the update of every convolution kernel, taken as a matrix, by the nearest
matrix whose singular values are all equal (Jordan, "Muon: an optimizer for hidden layers in neural networks", 2024).
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers, muon

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
    """Adam as in the paper (equal to PyTorch's: epsilon outside the root) or Muon, with optional clipping.

    Muon's updates have the root mean square 0.2 times the learning rate, about that of Adam's, so that rates are of the
    same order (Liu et al., "Muon is scalable for LLM training", 2025, section 2.2). Biases are Adam's, with Nesterov's
    momentum.
    """
    if train.optimizer == "adam":
        optimizer = optax.adam(schedule, b1=train.beta1, b2=train.beta2, eps=train.epsilon)
    else:
        optimizer = _on_stacks(
            muon(
                schedule,
                beta=train.momentum,
                eps=train.epsilon,
                adam_b1=train.beta1,
                adam_b2=train.beta2,
                muon_weight_dimension_numbers=_matrices,
                consistent_rms=0.2,
            )
        )
    return optax.chain(optax.clip_by_global_norm(train.clip_norm), optimizer) if train.clip_norm else optimizer


def _matrices(stacks: Any) -> Any:
    """Kernels (n, height, width, in, out) as n matrices of inputs × outputs; None leaves an array to Adam."""
    kernel = MuonDimensionNumbers(reduction_axis=(1, 2, 3), output_axis=4)
    return jax.tree.map(lambda stack: kernel if stack.ndim == 5 else None, stacks)


def _on_stacks(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Give `optimizer` all arrays of one shape as one (n, ...): a few large operations instead of many small ones."""

    def key(leaf: jax.Array) -> str:
        return "x".join(map(str, leaf.shape))

    def stacked(tree: Any) -> dict[str, jax.Array]:
        groups: dict[str, list[jax.Array]] = {}
        for leaf in jax.tree.leaves(tree):
            groups.setdefault(key(leaf), []).append(leaf)
        return {name: jnp.stack(leaves) for name, leaves in groups.items()}

    def init(params: Any) -> Any:
        return optimizer.init(stacked(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        stacks: Any
        stacks, state = optimizer.update(stacked(updates), state, None if params is None else stacked(params))
        leaves = {name: iter(stack) for name, stack in stacks.items()}
        return jax.tree.map(lambda leaf: next(leaves[key(leaf)]), updates), state

    return optax.GradientTransformation(init, update)
