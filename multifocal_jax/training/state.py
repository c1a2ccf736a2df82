"""The training state."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from multifocal_jax.config import ExperimentConfig
from multifocal_jax.models import initial_parameters

Params = Any


@flax.struct.dataclass
class TrainState:
    """Everything that is needed to resume exactly; batches follow from (seed, step)."""

    step: jax.Array  # steps taken, scalar int32
    params: Params  # of the network
    opt_state: optax.OptState
    average: Params | None  # exponential moving average of the parameters

    @property
    def weights(self) -> Params:
        """The parameters to de-rain with: the moving average if there is one."""
        return self.params if self.average is None else self.average


def parameter_dtype(config: ExperimentConfig) -> jnp.dtype:
    """Type of the parameters in training: float32, or float64 for that precision."""
    return jnp.promote_types(config.train.precision, jnp.float32)


def create_state(
    config: ExperimentConfig, optimizer: optax.GradientTransformation, params: Params | None = None
) -> TrainState:
    """A state at step 0; without initial `params` these are drawn from the config's seed."""
    dtype = parameter_dtype(config)
    values = initial_parameters(config.model, config.train.seed, dtype) if params is None else params
    values = jax.tree.map(lambda value: jnp.asarray(value, dtype), values)
    average = jax.tree.map(jnp.copy, values) if config.train.ema_decay else None
    return TrainState(jnp.zeros((), jnp.int32), values, optimizer.init(values), average)
