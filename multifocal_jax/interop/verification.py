"""Runs both frameworks on the same inputs and compares them block by block."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import jax

from multifocal_jax.interop.comparison import (
    FLOAT32_TOLERANCE,
    FLOAT64_TOLERANCE,
    Comparison,
    Difference,
    difference,
)
from multifocal_jax.interop.inputs import Inputs
from multifocal_jax.interop.intermediates import blocks, flax_intermediates, torch_intermediates
from multifocal_jax.interop.names import parameters
from multifocal_jax.interop.programs import DERAINED, TorchSide, compare_programs
from multifocal_jax.padding import pad_to_multiple

if TYPE_CHECKING:
    from multifocal_jax.interop.torch_network import TorchNet


def verify(
    params: Mapping[str, Any],
    network: "TorchNet",
    inputs: Inputs,
    precision: Literal["float64", "float32"] = "float64",
) -> Comparison:
    """Run both networks in one precision on CPU and compare every block, and the programs of `derain` and training.

    In float64 `FLOAT64_TOLERANCE` applies to every row, in float32 `FLOAT32_TOLERANCE` to the outputs.

    Args:
        params: parameters of the JAX network.
        network: the PyTorch network with its own parameters; it is converted to `precision`.
        inputs: of both networks.
        precision: of both computations.
    """
    import torch

    config = network.config
    network = network.to(dtype=getattr(torch, precision)).eval()
    cpu = jax.devices("cpu")[0]
    rows: list[Difference] = []
    with jax.enable_x64(precision == "float64"), jax.default_matmul_precision("highest"), jax.default_device(cpu):
        padded = pad_to_multiple(inputs.batch, config.multiple).astype(precision)
        ours = flax_intermediates(params, config, padded)
        theirs = torch_intermediates(network, padded)
        rows += [difference(block.name, ours[block.name], theirs[block.name]) for block in blocks(config)]
        named = dict(network.named_parameters())
        side = TorchSide(network, {p.flax: named[p.torch] for p in parameters(config)})
        rows += compare_programs(params, config, side, inputs, precision)
    return Comparison(
        title=f"{precision} on CPU, {inputs}",
        rows=tuple(rows),
        tolerance=FLOAT64_TOLERANCE if precision == "float64" else FLOAT32_TOLERANCE,
        checked=frozenset(row.name for row in rows if precision == "float64" or row.name in ("output", DERAINED)),
    )
