"""Parameters and pictures that every machine makes alike, so that fixtures hold results only.

`RandomState` is NumPy's frozen generator: its streams never change.
"""

import math

import numpy as np

from multifocal_jax.config import ModelConfig
from multifocal_jax.interop.names import parameters, to_flax_layout
from multifocal_jax.weights import unflatten

SHAPE = (2, 16, 32, 3)
SAMPLES = 3


def seeded_tensors(config: ModelConfig) -> dict[str, np.ndarray]:
    """PyTorch's state dictionary, values uniform in ±1/√fan_in, float64."""
    random, found, bound = np.random.RandomState(0), {}, 0.0
    for parameter in parameters(config):
        if len(parameter.torch_shape) == 4:
            bound = 1 / math.sqrt(np.prod(parameter.torch_shape[1:]))
        found[parameter.torch] = random.uniform(-bound, bound, parameter.torch_shape)
    return found


def seeded_params(config: ModelConfig) -> dict:
    """The same for JAX."""
    tensors = seeded_tensors(config)
    return unflatten({p.flax: to_flax_layout(tensors[p.torch]).copy() for p in parameters(config)})


def seeded_picture(seed: int) -> np.ndarray:
    """(2, 16, 32, 3), float64 in [0, 1]."""
    return np.random.RandomState(seed).uniform(size=SHAPE)


def samples(value: np.ndarray) -> np.ndarray:
    """Evenly spaced values of an array, and its mean absolute value last."""
    flat = np.asarray(value, np.float64).reshape(-1)
    spread = flat[np.linspace(0, flat.size - 1, SAMPLES).astype(int)]
    return np.append(spread, np.abs(flat).mean())
