"""What running a network once takes: for JAX, a quick compilation; for PyTorch, an optional extra, layout and hooks."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from multifocal_jax.interop.errors import ConversionError

if TYPE_CHECKING:
    import torch

# For one run or a few an optimised compilation does not pay off.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def require_torch(what: str, instead: str = "") -> None:
    """Raise a `ConversionError` if PyTorch is missing: `what` needs it; `instead` is an alternative without it."""
    try:
        import torch  # noqa: F401
    except ImportError:
        alternative = f", or {instead}" if instead else ""
        raise ConversionError(f"{what} needs PyTorch: pip install 'multifocal-jax[torch]'{alternative}") from None


def to_torch(images: np.ndarray) -> "torch.Tensor":
    """(B, H, W, C) → (B, C, H, W)."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def listen(network: "torch.nn.Module", hear: Callable[[str, Any, Any, Any], None], run: Callable[[], Any]) -> Any:
    """`run()`, while `hear(name, module, inputs, output)` is called for each module of a network that has run."""
    import torch

    handles = [module.register_forward_hook(functools.partial(hear, name)) for name, module in network.named_modules()]
    try:
        with torch.inference_mode():
            return run()
    finally:
        for handle in handles:
            handle.remove()
