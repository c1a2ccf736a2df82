"""Every row of the paper's ablation tables and every open switch, at a size that tests can afford; what they share.

Parameters and pictures are those that every machine makes alike, so that golden fixtures hold results only:
`RandomState` is NumPy's frozen generator, whose streams never change.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from multifocal_jax.cli.convert import convert
from multifocal_jax.config import ModelConfig, TrainConfig
from multifocal_jax.interop.errors import ConversionError
from multifocal_jax.interop.names import parameters, to_flax_layout
from multifocal_jax.interop.running import quick_jit
from multifocal_jax.interop.workflow import Request
from multifocal_jax.models import MultifocalNet
from multifocal_jax.training.optimizer import make_optimizer, make_schedule
from multifocal_jax.weights import unflatten

SWITCHES = {
    "default": {},
    "model_1": {"pyramid": "gaussian"},
    "model_2": {"pyramid": "average"},
    "model_3": {"interaction": "single_scale"},
    "model_4": {"interaction": "convolution"},
    "model_5": {"interaction": "spatial"},
    "model_6": {"interaction": "channel"},
    "heads_1": {"heads": 1},
    "heads_2": {"heads": 2},
    "heads_8": {"heads": 8},
    "heads_16": {"heads": 16, "channels": 16},
    "modules_0": {"modules": 0},
    "modules_2": {"modules": 2},
    "channels_12": {"channels": 12},
    "levels_1": {"levels": 1},
    "levels_2": {"levels": 2},
    "levels_4": {"levels": 4},
    "spp_2_5": {"spp_sizes": (2, 5)},
    "residual_blocks": {"residual_blocks": 2},
    "projection_3x3": {"projection_kernel": 3},
    "softmax_over_queries": {"channel_softmax": "query"},
    "value_unprojected": {"value_projection": False},
    "no_global_skip": {"global_skip": False},
    "open_switches": {
        "levels": 2,
        "spp_sizes": (2, 5),
        "residual_blocks": 1,
        "projection_kernel": 3,
        "channel_softmax": "query",
        "value_projection": False,
        "global_skip": False,
    },
}
# Run every time; `make stress` takes the others as well, one switch at a time.
QUICK = ("default", *(f"model_{row}" for row in range(1, 7)), "heads_2", "modules_2", "open_switches")


def small(**switches) -> ModelConfig:
    return ModelConfig(**{"channels": 8, "modules": 1, **switches})


VARIANTS = {name: small(**switches) for name, switches in SWITCHES.items()}
TINY = small(modules=0, levels=2, channels=4)  # compiles in a second, for what is about something else


def each_variant(quick=QUICK):
    """All variants as parameters of a test, those not in `quick` for `make stress`."""
    return [pytest.param(name, marks=[] if name in quick else [pytest.mark.slow]) for name in VARIANTS]


def seeded_tensors(config: ModelConfig) -> dict[str, np.ndarray]:
    """PyTorch's state dictionary, values uniform in ±1/√fan_in, float64."""
    random, found, bound = np.random.RandomState(0), {}, 0.0
    for parameter in parameters(config):
        if len(parameter.torch_shape) == 4:
            bound = 1 / math.sqrt(np.prod(parameter.torch_shape[1:]))
        found[parameter.torch] = random.uniform(-bound, bound, parameter.torch_shape)
    return found


def flax_params(tensors: dict[str, np.ndarray], config: ModelConfig) -> dict:
    """The same for JAX."""
    return unflatten({p.flax: to_flax_layout(tensors[p.torch]).copy() for p in parameters(config)})


def seeded_params(config: ModelConfig) -> dict:
    return flax_params(seeded_tensors(config), config)


def seeded_picture(seed: int) -> np.ndarray:
    """(2, 16, 32, 3), float64 in [0, 1]."""
    return np.random.RandomState(seed).uniform(size=(2, 16, 32, 3))


def samples(value: np.ndarray) -> np.ndarray:
    """Three evenly spaced values of an array, and its mean absolute value last."""
    flat = np.asarray(value, np.float64).reshape(-1)
    return np.append(flat[np.linspace(0, flat.size - 1, 3).astype(int)], np.abs(flat).mean())


def ten_adam_steps(config: ModelConfig, params: dict) -> tuple[dict, dict]:
    """The first gradients, and the parameters after ten steps on `seeded_picture`s, in float64.

    With the paper's schedule, its first halvings within ten steps of two an epoch.
    """
    network = MultifocalNet(config, dtype=jnp.float64, param_dtype=jnp.float64)
    train = TrainConfig(decay_epochs=2)
    optimizer = make_optimizer(train, make_schedule(train, steps_per_epoch=2, total_steps=10))

    @quick_jit
    def step(params, state, rainy, clean):
        gradients = jax.grad(lambda p: jnp.mean(jnp.abs(network.apply({"params": p}, rainy) - clean)))(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, gradients

    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        state, first = optimizer.init(params), None
        for index in range(10):
            rainy, clean = (jnp.asarray(seeded_picture(2 * index + end)) for end in (0, 1))
            params, state, gradients = step(params, state, rainy, clean)
            first = first or gradients
        return jax.tree.map(np.asarray, (first, params))


def ask(source, **fields) -> tuple[bool, str]:
    """Whether `convert_weights.py` ends well, and what it shows."""
    lines = []
    return convert(Request(source=str(source), **fields), lines.append), "\n".join(lines)


def refuse(message: str, source="nowhere", **fields) -> str:
    """What `convert_weights.py` says to a request that it must refuse."""
    with pytest.raises(ConversionError, match=message) as error:
        convert(Request(source=str(source), **fields), lambda line: None)
    return str(error.value)
