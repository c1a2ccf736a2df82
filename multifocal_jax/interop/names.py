"""Which parameter of the JAX network is which parameter of the PyTorch one, and how their values are laid out.

Names and values are kept apart: `parameters` pairs names and says shapes, `to_torch_layout` and `to_flax_layout`
transform arrays. Neither needs torch.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from multifocal_jax.config import ModelConfig


@dataclass(frozen=True)
class Convolution:
    """One convolution of the network; all its parameters belong to one.

    Attributes:
        flax: name in the JAX network, `module_0.spatial.level_0.query`.
        torch: name in the PyTorch network, `body.0.spatial.0.query.conv`.
        kernel: side of the kernel.
        inputs: input channels.
        outputs: output channels.
    """

    flax: str
    torch: str
    kernel: int
    inputs: int
    outputs: int

    @property
    def torch_shape(self) -> tuple[int, int, int, int]:
        """(outputs, inputs, kernel, kernel)."""
        return self.outputs, self.inputs, self.kernel, self.kernel

    @property
    def flax_shape(self) -> tuple[int, int, int, int]:
        """(kernel, kernel, inputs, outputs)."""
        return self.kernel, self.kernel, self.inputs, self.outputs


@dataclass(frozen=True)
class Parameter:
    """A parameter under both its names, with its shape in both layouts."""

    flax: str
    torch: str
    flax_shape: tuple[int, ...]
    torch_shape: tuple[int, ...]


def convolutions(config: ModelConfig) -> list[Convolution]:
    """All convolutions in the order in which they run."""
    return list(_convolutions(config))


def parameters(config: ModelConfig) -> list[Parameter]:
    """All parameters in the order in which they are used, kernel before bias."""
    found = []
    for conv in _convolutions(config):
        found.append(Parameter(f"{conv.flax}.kernel", f"{conv.torch}.weight", conv.flax_shape, conv.torch_shape))
        found.append(Parameter(f"{conv.flax}.bias", f"{conv.torch}.bias", (conv.outputs,), (conv.outputs,)))
    return found


def _convolutions(config: ModelConfig) -> Iterator[Convolution]:
    width, levels = config.channels, range(config.levels)
    if config.pyramid == "learned":
        for level in levels[1:]:
            yield Convolution(f"entrance.pyramid.reduce_{level}", f"pyramid.filters.{level - 1}", 3, 3, 3)
    for level in levels:
        yield Convolution(f"entrance.shallow_{level}", f"shallow.{level}", 3, 3, width)
    yield from _interaction(config, "spatial", "entrance.spatial", "entrance")
    for module in range(config.modules):
        flax, torch = f"module_{module}", f"body.{module}"
        for block in range(config.residual_blocks):
            for level in levels:
                inner = f"{torch}.residual.{level}.{block}"
                yield Convolution(f"{flax}.residual_{block}a_{level}", f"{inner}.conv1", 3, width, width)
                yield Convolution(f"{flax}.residual_{block}b_{level}", f"{inner}.conv2", 3, width, width)
        for level in levels:
            yield Convolution(f"{flax}.down_{level}", f"{torch}.down.{level}", 3, width, width)
        yield from _interaction(config, "channel", f"{flax}.channel", f"{torch}.channel")
        for level in levels:
            yield Convolution(f"{flax}.up_{level}", f"{torch}.up.{level}", 3, width, 4 * width)
        yield from _interaction(config, "spatial", f"{flax}.spatial", f"{torch}.spatial")
    yield Convolution("fusion.merge", "fusion.merge.conv", 3, len(levels) * width, width)
    yield Convolution("fusion.residual", "fusion.residual", 3, width, 3)


def _interaction(config: ModelConfig, kind: str, flax: str, torch: str) -> Iterator[Convolution]:
    """The convolutions of one CSSAB per level, or of what table 1 has in their place."""
    width, kernel = config.channels, config.projection_kernel
    if config.interaction in ("spatial", "channel") and config.interaction != kind:
        return
    for level in range(config.levels):
        if config.interaction == "convolution":
            yield Convolution(f"{flax}.level_{level}.conv", f"{torch}.{level}.conv", 3, 2 * width, width)
            continue
        roles = ["query", "key", "value"] if kind == "spatial" or config.value_projection else ["query", "key"]
        for role in roles:
            yield Convolution(f"{flax}.level_{level}.{role}", f"{torch}.{level}.{role}.conv", kernel, width, width)


def to_torch_layout(value: np.ndarray) -> np.ndarray:
    """Kernels HWIO → OIHW; biases as they are."""
    return np.ascontiguousarray(value.transpose(3, 2, 0, 1)) if value.ndim == 4 else value


def to_flax_layout(value: np.ndarray) -> np.ndarray:
    """Kernels OIHW → HWIO; biases as they are."""
    return np.ascontiguousarray(value.transpose(2, 3, 1, 0)) if value.ndim == 4 else value


# The JAX network's names and the PyTorch network's, for any width, depth and switches.
_RULES = (
    (r"entrance\.pyramid\.reduce_(\d+)", lambda m: f"pyramid.filters.{int(m[1]) - 1}"),
    (r"entrance\.shallow_(\d+)", r"shallow.\1"),
    (r"entrance\.spatial\.level_(\d+)\.(query|key|value)", r"entrance.\1.\2.conv"),
    (r"entrance\.spatial\.level_(\d+)\.conv", r"entrance.\1.conv"),
    (r"module_(\d+)\.residual_(\d+)a_(\d+)", r"body.\1.residual.\3.\2.conv1"),
    (r"module_(\d+)\.residual_(\d+)b_(\d+)", r"body.\1.residual.\3.\2.conv2"),
    (r"module_(\d+)\.(down|up)_(\d+)", r"body.\1.\2.\3"),
    (r"module_(\d+)\.(channel|spatial)\.level_(\d+)\.(query|key|value)", r"body.\1.\2.\3.\4.conv"),
    (r"module_(\d+)\.(channel|spatial)\.level_(\d+)\.conv", r"body.\1.\2.\3.conv"),
    (r"fusion\.merge", r"fusion.merge.conv"),
)


def flax_to_torch(name: str) -> str:
    """A parameter's name in the PyTorch network from that in the JAX network; other names come back unchanged."""
    stem, _, leaf = name.rpartition(".")
    leaf = {"kernel": "weight"}.get(leaf, leaf)
    for pattern, replacement in _RULES:
        if leaf in ("weight", "bias") and re.fullmatch(pattern, stem):
            return f"{re.sub(pattern, replacement, stem)}.{leaf}"
    return f"{stem}.{leaf}" if stem == "fusion.residual" else name
