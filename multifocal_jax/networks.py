"""The one place where an implementation of the network is chosen, for training, de-raining, export and benchmarks."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from multifocal_jax.config import ModelConfig

Implementation = Literal["fast", "reference"]


@dataclass(frozen=True)
class Network:
    """A network as a pure function of its parameters, which are the same whatever the implementation.

    Attributes:
        apply: `apply({"params": params}, rainy)` de-rains (B, H, W, 3) in [0, 1], see `MultifocalNet`.
        takes_size: whether `apply(variables, rainy, size)` takes pictures in the corner of a larger batch, see
            `multifocal_jax.fast.derain`.
    """

    apply: Callable[..., jax.Array]
    takes_size: bool


def build_network(
    config: ModelConfig,
    implementation: Implementation = "fast",
    *,
    dtype: DTypeLike = jnp.float32,
    devices: int = 1,
    open_shape: bool = False,
) -> Network:
    """The network of a config by one implementation, or by the reference where that one does not serve.

    Args:
        config: the architecture.
        implementation: "fast", in less time and memory (`multifocal_jax.fast`), or "reference", as the paper writes it
            (`multifocal_jax.models`).
        dtype: of the computation; attention logits and softmax stay in float32 or wider.
        devices: over which the rows of every picture are spread.
        open_shape: batch, height or width are symbolic (`jax.export`).
    """
    try:
        return _IMPLEMENTATIONS[implementation](config, dtype, devices, open_shape)
    except NotImplementedError:
        return _reference(config, dtype, devices, open_shape)


def _fast(config: ModelConfig, dtype: DTypeLike, devices: int, open_shape: bool) -> Network:
    if devices > 1:
        raise NotImplementedError("strips of rows would cut across the rows of the devices")
    if open_shape:
        raise NotImplementedError("a picture of open size cannot be cut into strips of rows")
    from multifocal_jax.fast import derain

    return Network(partial(derain, config, dtype), takes_size=True)


def _reference(config: ModelConfig, dtype: DTypeLike, *_: Any) -> Network:
    from multifocal_jax.models import MultifocalNet

    return Network(MultifocalNet(config, dtype).apply, takes_size=False)  # pyright: ignore[reportArgumentType]


_IMPLEMENTATIONS: dict[Implementation, Callable[..., Network]] = {"fast": _fast, "reference": _reference}
