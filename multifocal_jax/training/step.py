"""One training step, as a pure function of one device's share of the batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from multifocal_jax.config import ExperimentConfig
from multifocal_jax.networks import build_network
from multifocal_jax.training.losses import make_loss
from multifocal_jax.training.optimizer import Schedule
from multifocal_jax.training.state import TrainState, parameter_dtype

AXIS = "data"

Images = Float[Array, "b h w c"]
Batch = Any
Metrics = dict[str, jax.Array]
Prepare = Callable[[Any, Batch], tuple[Images, Images]]
Step = Callable[[TrainState, Any, Batch], tuple[TrainState, Metrics]]


def make_step(
    config: ExperimentConfig,
    optimizer: optax.GradientTransformation,
    schedule: Schedule,
    prepare: Prepare,
    axis: str | None = AXIS,
) -> Step:
    """Build `step(state, resident, batch) -> (state, metrics)`.

    Args:
        config: network, loss, accumulation and averaging.
        optimizer: see `make_optimizer`.
        schedule: learning rate by step, for the log.
        prepare: turns the device's resident data and its share of the batch into (rainy, clean) crops.
        axis: name of the mapped axis over which gradients are averaged; None for a single device.

    Returns:
        The step. Its metrics are scalars: loss, learning_rate, the norms of gradients, parameters and updates, and
        the mean |R| of the estimated rain, which reveals a collapse to "no rain" early.
    """
    network = build_network(config.model, dtype=jnp.dtype(config.train.precision))
    # Otherwise float32 means TF32 on NVIDIA GPUs and bfloat16 on TPUs, in convolutions and products.
    products = "highest" if config.train.precision == "float32" else None
    loss_of, dtype = make_loss(config.train), parameter_dtype(config)

    def loss_and_rain(params: Any, rainy: Images, clean: Images) -> tuple[jax.Array, jax.Array]:
        derained = network.apply({"params": params}, rainy)
        return loss_of(derained, clean), jnp.mean(jnp.abs(rainy - derained))

    def gradients(params: Any, resident: Any, batch: Batch) -> tuple[tuple[jax.Array, jax.Array], Any]:
        rainy, clean = (image.astype(dtype) for image in prepare(resident, batch))
        with jax.default_matmul_precision(products):
            return jax.value_and_grad(loss_and_rain, has_aux=True)(params, rainy, clean)

    def accumulated(params: Any, resident: Any, batch: Batch) -> tuple[tuple[jax.Array, jax.Array], Any]:
        parts = config.train.accumulate
        if parts == 1:
            return gradients(params, resident, batch)
        split = jax.tree.map(lambda x: x.reshape(parts, x.shape[0] // parts, *x.shape[1:]), batch)
        first = jax.tree.map(lambda x: x[0], split)
        shapes = jax.eval_shape(gradients, params, resident, first)
        zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

        def add(total: Any, part: Batch) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, gradients(params, resident, part)), None

        total, _ = jax.lax.scan(add, zeros, split)
        return jax.tree.map(lambda value: value / parts, total)

    def step(state: TrainState, resident: Any, batch: Batch) -> tuple[TrainState, Metrics]:
        result = accumulated(state.params, resident, batch)
        (loss, rain), grads = result if axis is None else jax.lax.pmean(result, axis)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        average = state.average
        if average is not None:
            average = optax.incremental_update(params, average, 1 - config.train.ema_decay)
        metrics = {
            "loss": loss,
            "learning_rate": schedule(state.step),
            "gradient_norm": _norm(grads),
            "parameter_norm": _norm(params),
            "update_norm": _norm(updates),
            "mean_rain": rain,
        }
        return TrainState(state.step + 1, params, opt_state, average), metrics

    return step


def _norm(tree: Any) -> jax.Array:
    """The global norm: on a GPU of one vector, for fewer launches; elsewhere per array, as the copy costs more."""

    def at_once(tree: Any) -> jax.Array:
        return jnp.linalg.norm(jnp.concatenate([x.ravel() for x in jax.tree.leaves(tree)]))

    return jax.lax.platform_dependent(tree, cuda=at_once, default=optax.tree.norm)
