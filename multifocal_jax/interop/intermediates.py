"""Named intermediates of both networks, in one layout, so that they can be compared block by block.

JAX returns them from `apply(…, mutable=["intermediates"])`, PyTorch through forward hooks.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from multifocal_jax.config import ModelConfig
from multifocal_jax.models import MultifocalNet

if TYPE_CHECKING:
    from multifocal_jax.interop.torch_network import TorchNet

Layout = Literal["image", "anchors", "map"]


@dataclass(frozen=True)
class Block:
    """One point at which the networks are compared.

    Attributes:
        name: as printed, and the path within JAX's intermediates.
        torch: path of the PyTorch module that outputs it.
        layout: of the output. "image" is (B, C, H, W) in PyTorch, "anchors" (B, C, S), "map" is attention.
        index: level, if the output is one tensor per level.
    """

    name: str
    torch: str
    layout: Layout
    index: int | None = None


def blocks(config: ModelConfig) -> list[Block]:
    """All points of comparison in the order of computation; the last one is the output."""
    return list(_blocks(config))


def _blocks(config: ModelConfig) -> Iterator[Block]:
    levels = range(config.levels)
    for level in levels[1:]:
        yield Block(f"entrance.pyramid.level_{level}", "pyramid", "image", level)
    yield from _interaction(config, "spatial", "entrance.spatial", "entrance")
    for level in levels:
        yield Block(f"entrance_features.{level}", "entrance", "image", level)
    for module in range(config.modules):
        yield from _interaction(config, "channel", f"module_{module}.channel", f"body.{module}.channel")
        yield from _interaction(config, "spatial", f"module_{module}.spatial", f"body.{module}.spatial")
        for level in levels:
            yield Block(f"module_{module}_features.{level}", f"body.{module}", "image", level)
    yield Block("fusion.merged", "fusion.merge", "image")
    yield Block("residual", "fusion", "image")
    yield Block("output", "", "image")


def _interaction(config: ModelConfig, kind: str, flax: str, torch: str) -> Iterator[Block]:
    if config.interaction in ("spatial", "channel") and config.interaction != kind:
        return
    for level in range(config.levels):
        ours, theirs = f"{flax}.level_{level}", f"{torch}.{level}"
        if config.interaction == "convolution":
            pass
        elif kind == "spatial":
            yield Block(f"{ours}.recalibrated_query", f"{theirs}.query", "image")
            yield Block(f"{ours}.pooled_key", f"{theirs}.key", "anchors")
            yield Block(f"{ours}.pooled_value", f"{theirs}.value", "anchors")
            yield Block(f"{ours}.maps", f"{theirs}.softmax", "map")
        else:
            yield Block(f"{ours}.pooled_query", f"{theirs}.query", "anchors")
            yield Block(f"{ours}.pooled_key", f"{theirs}.key", "anchors")
            yield Block(f"{ours}.full_value", f"{theirs}.value", "image")
            yield Block(f"{ours}.maps", f"{theirs}.softmax", "map")
        yield Block(f"{ours}.out", theirs, "image")


def flax_intermediates(params: Mapping[str, Any], config: ModelConfig, images: np.ndarray) -> dict[str, np.ndarray]:
    """Run the JAX network and return every block by name.

    Computes in the precision of `images`; float64 needs `jax.enable_x64`.

    Args:
        params: parameters.
        config: the architecture.
        images: (B, H, W, 3), H and W multiples of `config.multiple`.
    """
    dtype = jnp.dtype(images.dtype)
    network = MultifocalNet(config, dtype=dtype, param_dtype=dtype)

    # An optimised compilation does not pay off for one run.
    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def run(params: Any, images: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
        output, state = network.apply({"params": params}, images, mutable=["intermediates"])
        return output, dict(state)["intermediates"]

    params = jax.tree.map(lambda value: np.asarray(value, dtype), dict(params))
    output, captured = run(params, jnp.asarray(images))
    found = {"output": np.asarray(output)}
    for block in blocks(config)[:-1]:
        value: Any = captured
        path = block.name.split(".")
        for part in path if block.name.startswith("entrance.") or block.index is None else path[:-1]:
            value = value[part]
        value = value[0]  # `sow` collects a tuple, here of one call
        if isinstance(value, list | tuple):  # one array per level
            value = value[int(path[-1])]
        found[block.name] = np.asarray(value)
    return found


def torch_intermediates(network: "TorchNet", images: np.ndarray) -> dict[str, np.ndarray]:
    """Run the PyTorch network and return every block by name, in JAX's layout.

    Args:
        network: the PyTorch network, made without `fused`.
        images: (B, H, W, 3) in the network's precision, H and W multiples of `config.multiple`.
    """
    import torch

    wanted = blocks(network.config)
    seen: dict[str, Any] = {}

    def keep(path: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            seen[path] = output

        return hook

    handles = [network.get_submodule(path).register_forward_hook(keep(path)) for path in {b.torch for b in wanted}]
    try:
        with torch.inference_mode():
            network(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))))
    finally:
        for handle in handles:
            handle.remove()
    found = {}
    for block in wanted:
        value = seen[block.torch] if block.index is None else seen[block.torch][block.index]
        found[block.name] = to_channels_last(value.numpy(), block.layout)
    # PyTorch keeps the positions of a spatial map in one axis, JAX height and width apart.
    for name, value in found.items():
        if name.endswith(".maps") and ".spatial." in name:
            b, h, w, _ = found[name.removesuffix("maps") + "recalibrated_query"].shape
            found[name] = value.reshape(b, value.shape[1], h, w, -1)
    return found


def to_channels_last(value: np.ndarray, layout: Layout) -> np.ndarray:
    """(B, C, …) → (B, …, C); attention maps as they are."""
    return value if layout == "map" else np.moveaxis(value, 1, -1)
