"""Random initial parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from multifocal_jax.config import ModelConfig
from multifocal_jax.models.network import MultifocalNet


def initial_parameters(config: ModelConfig, seed: int, dtype: DTypeLike = jnp.float32) -> dict[str, Any]:
    """Initial parameters as of `MultifocalNet.init`, without compiling it: uniform in ±1/√fan_in, PyTorch's default.

    One draw is split among all parameters in the order of their names. This takes a second; compiling `init` takes
    minutes.

    Args:
        config: the architecture.
        seed: gives the same parameters on every platform.
        dtype: of the parameters.

    Returns:
        Nested dictionaries of NumPy arrays, named as in `network.init(…)["params"]`.
    """
    shapes = parameter_shapes(config)
    total = sum(int(np.prod(shape.shape)) for shape in jax.tree.leaves(shapes))
    drawn = np.asarray(jax.random.uniform(jax.random.key(seed), (total,), dtype, -1.0, 1.0))
    used = 0

    def fill(node: Any) -> dict[str, Any]:
        nonlocal used
        filled = {}
        for name in sorted(node):
            if not isinstance(node[name], jax.ShapeDtypeStruct):
                filled[name] = fill(node[name])
                continue
            shape = node[name].shape
            size = int(np.prod(shape))
            fan_in = int(np.prod(node["kernel"].shape[:-1]))
            filled[name] = drawn[used : used + size].reshape(shape) / np.sqrt(fan_in, dtype=drawn.dtype)
            used += size
        return filled

    return fill(shapes)


def parameter_shapes(config: ModelConfig) -> dict[str, Any]:
    """The parameters as nested dictionaries of `jax.ShapeDtypeStruct`."""
    image = jax.ShapeDtypeStruct((1, config.multiple, config.multiple, 3), jnp.float32)
    return jax.eval_shape(MultifocalNet(config).init, jax.random.key(0), image)["params"]
