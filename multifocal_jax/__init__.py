"""De-rain images with the multifocal attention-based cross-scale network (ACM MM 2021), in JAX and Flax."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multifocal_jax.config import ModelConfig
    from multifocal_jax.evaluation.inference import load
    from multifocal_jax.models import MultifocalNet
    from multifocal_jax.networks import build_network
    from multifocal_jax.weights_lookup import list_weights

__version__ = "0.2.0"

__all__ = ["ModelConfig", "MultifocalNet", "__version__", "build_network", "list_weights", "load"]

_HOMES = {
    "ModelConfig": "multifocal_jax.config",
    "MultifocalNet": "multifocal_jax.models",
    "build_network": "multifocal_jax.networks",
    "list_weights": "multifocal_jax.weights_lookup",
    "load": "multifocal_jax.evaluation.inference",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import multifocal_jax` and a command's `--help` do not wait for JAX."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
