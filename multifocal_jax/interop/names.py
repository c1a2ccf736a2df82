"""Maps parameters of the JAX network to those of the PyTorch network: names and array layouts; torch is not needed."""

import re
from collections.abc import Sequence
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
    """The name in the PyTorch network of a convolution or parameter of the JAX network, of any width and depth.

    Names that the JAX network does not have are returned unchanged.
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
    """One convolution of the network; all its parameters belong to one."""

    flax: str  # name in the JAX network, `module_0.spatial.level_0.query`
    kernel: int  # its side
    inputs: int  # channels
    outputs: int

    @property
    def torch(self) -> str:
        """Name in the PyTorch network, `body.0.spatial.0.query.conv`."""
        return flax_to_torch(self.flax)

    @property
    def torch_shape(self) -> tuple[int, int, int, int]:
        """(outputs, inputs, kernel, kernel)."""
        return self.outputs, self.inputs, self.kernel, self.kernel


@dataclass(frozen=True)
class Parameter:
    """A parameter under both its names, with its shape in both layouts."""

    flax: str
    torch: str
    flax_shape: tuple[int, ...]
    torch_shape: tuple[int, ...]


def convolutions(config: ModelConfig) -> list[Convolution]:
    """All convolutions in the order in which they run."""
    width, levels, found = config.channels, range(config.levels), list[Convolution]()

    def add(name: str, inputs: int = width, outputs: int = width, kernel: int = 3) -> None:
        found.append(Convolution(name, kernel, inputs, outputs))

    def interact(kind: str, name: str) -> None:
        """Add one CSSAB per level, or its replacement in table 1."""
        if config.interaction in ("spatial", "channel") and config.interaction != kind:
            return
        projections = ["query", "key", "value"] if kind == "spatial" or config.value_projection else ["query", "key"]
        for level in levels:
            if config.interaction == "convolution":
                add(f"{name}.level_{level}.conv", 2 * width)
                continue
            for projection in projections:
                add(f"{name}.level_{level}.{projection}", kernel=config.projection_kernel)

    for level in levels[1:] if config.pyramid == "learned" else ():
        add(f"entrance.pyramid.reduce_{level}", 3, 3)
    for level in levels:
        add(f"entrance.shallow_{level}", 3)
    interact("spatial", "entrance.spatial")
    for module in (f"module_{index}" for index in range(config.modules)):
        for block in range(config.residual_blocks):
            for level in levels:
                add(f"{module}.residual_{block}a_{level}")
                add(f"{module}.residual_{block}b_{level}")
        for level in levels:
            add(f"{module}.down_{level}")
        interact("channel", f"{module}.channel")
        for level in levels:
            add(f"{module}.up_{level}", outputs=4 * width)
        interact("spatial", f"{module}.spatial")
    add("fusion.merge", len(levels) * width)
    add("fusion.residual", outputs=3)
    return found


def parameters(config: ModelConfig) -> list[Parameter]:
    """All parameters in the order in which they are used, kernel before bias."""
    found = []
    for conv in convolutions(config):
        flax_shape = (conv.kernel, conv.kernel, conv.inputs, conv.outputs)
        found.append(Parameter(f"{conv.flax}.kernel", f"{conv.torch}.weight", flax_shape, conv.torch_shape))
        found.append(Parameter(f"{conv.flax}.bias", f"{conv.torch}.bias", (conv.outputs,), (conv.outputs,)))
    return found


def as_kernel(shape: Sequence[int]) -> tuple[int, ...]:
    """The kernel's shape (o, i, 1, 1) for (o, i) of a linear layer and (o, i, 1) of a 1-D convolution; others as is."""
    flat = len(shape) == 2 or (len(shape) == 3 and shape[2] == 1)
    return (*shape[:2], 1, 1) if flat else tuple(shape)


def to_torch_layout(value: np.ndarray) -> np.ndarray:
    """Kernels HWIO → OIHW; biases as they are."""
    return np.ascontiguousarray(value.transpose(3, 2, 0, 1)) if value.ndim == 4 else value


def to_flax_layout(value: np.ndarray) -> np.ndarray:
    """Kernels OIHW → HWIO, those that `as_kernel` views included; biases as they are."""
    value = value.reshape(as_kernel(value.shape))
    return np.ascontiguousarray(value.transpose(2, 3, 1, 0)) if value.ndim == 4 else value
