"""The network of the paper as Flax Linen modules, one block per file.

Linen rather than NNX: the network is wanted as pure functions, and Linen's `init` and `apply` are just that.
"""

from multifocal_jax.models.initial import initial_parameters, parameter_shapes
from multifocal_jax.models.network import MultifocalNet

__all__ = ["MultifocalNet", "initial_parameters", "parameter_shapes"]
