"""Random parameters to start from."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from multifocal_jax.models.layers import Block


def initial_parameters(network: Block, seed: int) -> dict[str, Any]:
    """What `network.init` draws, without compiling it: weights and biases uniform in ±1/√fan_in, as PyTorch starts.

    One draw is cut up into all parameters in the order of their names, which takes a second where compiling `init`
    takes minutes.

    Args:
        network: see `MultifocalNet`.
        seed: the same parameters for the same seed, on every platform.

    Returns:
        Nested dictionaries of NumPy arrays, as `network.init(…)["params"]`.
    """
    shapes = parameter_shapes(network)
    total = sum(int(np.prod(shape.shape)) for shape in jax.tree.leaves(shapes))
    drawn = np.asarray(jax.random.uniform(jax.random.key(seed), (total,), network.param_dtype, -1.0, 1.0))
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


def parameter_shapes(network: Block) -> dict[str, Any]:
    """The parameters as nested dictionaries of `jax.ShapeDtypeStruct`."""
    side = network.config.multiple
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return jax.eval_shape(network.init, jax.random.key(0), image)["params"]
