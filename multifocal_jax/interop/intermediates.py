"""Named intermediates of both networks, in one layout, so that they can be compared block by block.

JAX returns them from `apply(…, mutable=["intermediates"])`, PyTorch through forward hooks.
"""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from multifocal_jax.config import ModelConfig
from multifocal_jax.interop.running import listen, quick_jit, to_torch
from multifocal_jax.models import MultifocalNet

if TYPE_CHECKING:
    from multifocal_jax.interop.torch_network import TorchNet

# What a CSSAB captures, by the submodule of the PyTorch block that outputs it.
_CAPTURED = {
    "spatial": {"recalibrated_query": "query", "pooled_key": "key", "pooled_value": "value", "maps": "softmax"},
    "channel": {"pooled_query": "query", "pooled_key": "key", "full_value": "value", "maps": "softmax"},
}


class Block(NamedTuple):
    """One point at which the networks are compared."""

    name: str  # as printed: the path within JAX's intermediates
    torch: str  # path of the PyTorch module that outputs it
    level: int | None = None  # if the output is one tensor per level


def blocks(config: ModelConfig) -> list[Block]:
    """All points of comparison in the order of computation; the last one is the output."""
    levels = range(config.levels)
    found = [Block(f"entrance.pyramid.level_{level}", "pyramid", level) for level in levels[1:]]
    found += _interaction(config, "spatial", "entrance.spatial", "entrance")
    found += [Block(f"entrance_features.{level}", "entrance", level) for level in levels]
    for module in range(config.modules):
        for kind in ("channel", "spatial"):
            found += _interaction(config, kind, f"module_{module}.{kind}", f"body.{module}.{kind}")
        found += [Block(f"module_{module}_features.{level}", f"body.{module}", level) for level in levels]
    return [*found, Block("fusion.merged", "fusion.merge"), Block("residual", "fusion"), Block("output", "")]


def _interaction(config: ModelConfig, kind: str, flax: str, torch: str) -> Iterator[Block]:
    if config.interaction in ("spatial", "channel") and config.interaction != kind:
        return
    captured = {} if config.interaction == "convolution" else _CAPTURED[kind]
    for level in range(config.levels):
        for name, submodule in captured.items():
            yield Block(f"{flax}.level_{level}.{name}", f"{torch}.{level}.{submodule}")
        yield Block(f"{flax}.level_{level}.out", f"{torch}.{level}")


def flax_intermediates(params: Mapping[str, Any], config: ModelConfig, images: np.ndarray) -> dict[str, np.ndarray]:
    """Run the JAX network on (B, H, W, 3), H and W multiples of `config.multiple`, and return every block by name.

    Computes in the precision of `images`; float64 needs `jax.enable_x64`.
    """
    dtype = jnp.dtype(images.dtype)
    network = MultifocalNet(config, dtype=dtype, param_dtype=dtype)
    params = jax.tree.map(lambda value: np.asarray(value, dtype), dict(params))
    run = quick_jit(lambda params, images: network.apply({"params": params}, images, mutable=["intermediates"]))
    output, captured = run(params, jnp.asarray(images))
    found = {"output": np.asarray(output)}
    for path, value in jax.tree_util.tree_leaves_with_path(captured["intermediates"]):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        # `sow` collects a tuple, here of one call, of an array or of one per level.
        found[re.sub(r"\.0(\.\d+)?$", r"\1", name)] = np.asarray(value)
    return found


def torch_intermediates(network: "TorchNet", images: np.ndarray) -> dict[str, np.ndarray]:
    """The same of a PyTorch network without `fused`, in JAX's layout; `images` are in the network's precision."""
    seen: dict[str, Any] = {}
    listen(network, lambda name, module, inputs, output: seen.update({name: output}), lambda: network(to_torch(images)))
    found: dict[str, np.ndarray] = {}
    for name, path, level in blocks(network.config):
        value = (seen[path] if level is None else seen[path][level]).numpy()
        if not name.endswith(".maps"):
            value = np.moveaxis(value, 1, -1)
        elif ".spatial." in name:  # PyTorch keeps the positions of a map in one axis, JAX height and width apart
            b, h, w, _ = found[name.removesuffix("maps") + "recalibrated_query"].shape
            value = value.reshape(b, value.shape[1], h, w, -1)
        found[name] = value
    return found
