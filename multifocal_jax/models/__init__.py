"""The network of the paper as Flax Linen modules, one block per file.

Linen rather than NNX, because Linen's `init` and `apply` are pure functions, which is how the network is used.
"""

from multifocal_jax.models.initial import initial_parameters, parameter_shapes
from multifocal_jax.models.network import MultifocalNet

__all__ = ["MultifocalNet", "initial_parameters", "parameter_shapes"]
