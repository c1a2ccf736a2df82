"""Chooses the implementation of the network, for training, de-raining, export and benchmarks; nothing else does."""

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
    """A network as a pure function of its parameters, which are the same for every implementation.

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
    """Build the network of a config with one implementation, or with the reference if that one does not support it.

    Args:
        config: the architecture.
        implementation: "fast", for less time and memory (`multifocal_jax.fast`), or "reference", which follows the
            paper block by block (`multifocal_jax.models`).
        dtype: of the computation; attention logits and softmax stay in float32 or wider.
        devices: number of devices over which the rows of every picture are split.
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
