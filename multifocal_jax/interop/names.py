"""Maps parameters of the JAX network to those of the PyTorch network: names and array layouts.

Names and values are handled separately: `flax_to_torch` maps names, `parameters` lists them with their shapes,
`to_torch_layout` and `to_flax_layout` transform arrays. None of them needs torch.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from multifocal_jax.config import ModelConfig

# Convolutions by their names in the JAX network, and in the PyTorch network.
_NAMES = (
    (r"entrance\.pyramid\.reduce_(\d+)", lambda found: f"pyramid.filters.{int(found[1]) - 1}"),
    (r"entrance\.shallow_(\d+)", r"shallow.\1"),
    (r"entrance\.spatial\.level_(\d+)\.(query|key|value)", r"entrance.\1.\2.conv"),
    (r"entrance\.spatial\.level_(\d+)\.conv", r"entrance.\1.conv"),
    (r"module_(\d+)\.residual_(\d+)a_(\d+)", r"body.\1.residual.\3.\2.conv1"),
    (r"module_(\d+)\.residual_(\d+)b_(\d+)", r"body.\1.residual.\3.\2.conv2"),
    (r"module_(\d+)\.(down|up)_(\d+)", r"body.\1.\2.\3"),
    (r"module_(\d+)\.(channel|spatial)\.level_(\d+)\.(query|key|value)", r"body.\1.\2.\3.\4.conv"),
    (r"module_(\d+)\.(channel|spatial)\.level_(\d+)\.conv", r"body.\1.\2.\3.conv"),
    (r"fusion\.merge", "fusion.merge.conv"),
    (r"fusion\.residual", "fusion.residual"),
)


def flax_to_torch(name: str) -> str:
    """The name in the PyTorch network of a convolution or parameter of the JAX network.

    Works for any width, depth and switches; names that the JAX network does not have are returned unchanged.
    """
    stem, dot, leaf = name.rpartition(".")
    if leaf not in ("kernel", "weight", "bias"):
        stem, dot, leaf = name, "", ""
    for pattern, replacement in _NAMES:
        if re.fullmatch(pattern, stem):
            return re.sub(pattern, replacement, stem) + dot + ("weight" if leaf == "kernel" else leaf)
    return name


@dataclass(frozen=True)
class Convolution:
    """One convolution of the network; all its parameters belong to one.

    Attributes:
        flax: name in the JAX network, `module_0.spatial.level_0.query`.
        kernel: side of the kernel.
        inputs: input channels.
        outputs: output channels.
    """

    flax: str
    kernel: int
    inputs: int
    outputs: int

    @property
    def torch(self) -> str:
        """Name in the PyTorch network, `body.0.spatial.0.query.conv`."""
        return flax_to_torch(self.flax)

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
            yield Convolution(f"entrance.pyramid.reduce_{level}", 3, 3, 3)
    for level in levels:
        yield Convolution(f"entrance.shallow_{level}", 3, 3, width)
    yield from _interaction(config, "spatial", "entrance.spatial")
    for module in range(config.modules):
        for block in range(config.residual_blocks):
            for level in levels:
                yield Convolution(f"module_{module}.residual_{block}a_{level}", 3, width, width)
                yield Convolution(f"module_{module}.residual_{block}b_{level}", 3, width, width)
        for level in levels:
            yield Convolution(f"module_{module}.down_{level}", 3, width, width)
        yield from _interaction(config, "channel", f"module_{module}.channel")
        for level in levels:
            yield Convolution(f"module_{module}.up_{level}", 3, width, 4 * width)
        yield from _interaction(config, "spatial", f"module_{module}.spatial")
    yield Convolution("fusion.merge", 3, len(levels) * width, width)
    yield Convolution("fusion.residual", 3, width, 3)


def _interaction(config: ModelConfig, kind: str, name: str) -> Iterator[Convolution]:
    """The convolutions of one CSSAB per level, or of its replacement in table 1."""
    width, kernel = config.channels, config.projection_kernel
    if config.interaction in ("spatial", "channel") and config.interaction != kind:
        return
    for level in range(config.levels):
        if config.interaction == "convolution":
            yield Convolution(f"{name}.level_{level}.conv", 3, 2 * width, width)
            continue
        projections = ["query", "key", "value"] if kind == "spatial" or config.value_projection else ["query", "key"]
        for projection in projections:
            yield Convolution(f"{name}.level_{level}.{projection}", kernel, width, width)


def to_torch_layout(value: np.ndarray) -> np.ndarray:
    """Kernels HWIO → OIHW; biases as they are."""
    return np.ascontiguousarray(value.transpose(3, 2, 0, 1)) if value.ndim == 4 else value


def to_flax_layout(value: np.ndarray) -> np.ndarray:
    """Kernels OIHW → HWIO; biases as they are."""
    return np.ascontiguousarray(value.transpose(2, 3, 1, 0)) if value.ndim == 4 else value
