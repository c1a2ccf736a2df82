"""Runs the JAX network and a PyTorch network on the same inputs and compares them.

They are compared block by block in the paper's formulation, and then as `derain` and training run the JAX network.
These programs differ: pictures are padded and processed in strips of rows and in a loop over the modules, and gradients
have their own formulas. So both are built here by the same code as for `derain` and training.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from multifocal_jax.config import ExperimentConfig, ModelConfig, TrainConfig
from multifocal_jax.evaluation.inference import Derainer
from multifocal_jax.interop.bands import OUR_ORDER, BandOrder, reorder_bands
from multifocal_jax.interop.comparison import FLOAT32_TOLERANCE, FLOAT64_TOLERANCE, Comparison, Difference, difference
from multifocal_jax.interop.inputs import Inputs
from multifocal_jax.interop.intermediates import blocks, flax_intermediates, torch_intermediates
from multifocal_jax.interop.names import parameters, to_flax_layout
from multifocal_jax.interop.running import quick_jit, to_torch
from multifocal_jax.padding import pad_to_multiple
from multifocal_jax.training.state import create_state
from multifocal_jax.training.step import make_step
from multifocal_jax.weights import flatten, unflatten

if TYPE_CHECKING:
    import torch

    from multifocal_jax.interop.torch_network import TorchNet

Precision = Literal["float64", "float32"]
DERAINED = "output as `derain` computes it"
GRADIENTS = "gradients as training computes them"
NO_GRADIENTS = "the network computes none: not judged"
# A difference is relative to the largest gradient of its parameter, but at least to this part of the largest of all:
# some parameters have no influence, and their gradients are rounding errors only.
_LEAST_SHARE = 1e-4


@dataclass(frozen=True)
class TorchSide:
    """A PyTorch network to compare with."""

    run: Callable[["torch.Tensor"], "torch.Tensor"]  # (B, 3, H, W) in [0, 1] → the same, de-rained
    tensors: Mapping[str, "torch.Tensor"]  # its parameters by the names of ours
    band_order: BandOrder = OUR_ORDER  # of its wavelet bands


@contextlib.contextmanager
def exactly(precision: Precision) -> Iterator[None]:
    """JAX computes on the CPU in this precision."""
    cpu = jax.devices("cpu")[0]
    with jax.enable_x64(precision == "float64"), jax.default_matmul_precision("highest"), jax.default_device(cpu):
        yield


def verify(
    params: Mapping[str, Any], network: "TorchNet", inputs: Inputs, precision: Precision = "float64"
) -> Comparison:
    """Run both networks in one precision on CPU and compare every block, and the programs of `derain` and training.

    In float64 `FLOAT64_TOLERANCE` applies to every row, in float32 `FLOAT32_TOLERANCE` to the outputs. The PyTorch
    network has its own parameters and is converted to `precision`.
    """
    import torch

    config = network.config
    network = network.to(dtype=getattr(torch, precision)).eval()
    with exactly(precision):
        padded = pad_to_multiple(inputs.batch, config.multiple).astype(precision)
        ours, theirs = flax_intermediates(params, config, padded), torch_intermediates(network, padded)
        rows = [difference(block.name, ours[block.name], theirs[block.name]) for block in blocks(config)]
        named = dict(network.named_parameters())
        side = TorchSide(network, {p.flax: named[p.torch] for p in parameters(config)})
        rows += compare_programs(params, config, side, inputs, precision)
    return Comparison(
        title=f"{precision} on CPU, {inputs}",
        rows=tuple(rows),
        tolerance=FLOAT64_TOLERANCE if precision == "float64" else FLOAT32_TOLERANCE,
        checked=frozenset(row.name for row in rows if precision == "float64" or row.name in ("output", DERAINED)),
    )


def compare_programs(
    params: Mapping[str, Any], model: ModelConfig, theirs: TorchSide, inputs: Inputs, precision: Precision
) -> list[Difference]:
    """Compare the result of `derain` on the photograph and, in float64, the gradients of training on the crops.

    In float32 gradients are left out: every activation that rounding pushes across the edge of a ReLU changes them by
    more than any useful tolerance. `theirs` is in `precision`; float64 needs `jax.enable_x64`.
    """
    rows = []
    if inputs.photograph is not None:
        rows.append(_compare_derained(params, model, theirs, inputs.photograph, precision))
    if precision == "float64" and inputs.crops is not None:
        rows.append(_compare_gradients(params, model, theirs, pad_to_multiple(inputs.crops, model.multiple)))
    return rows


def _compare_derained(
    params: Mapping[str, Any], model: ModelConfig, theirs: TorchSide, picture: np.ndarray, precision: Precision
) -> Difference:
    """The output before it is clipped and rounded."""
    import torch

    derainer = Derainer(params, model, precision=precision, tile=0, platform="cpu")
    height, width = picture.shape[1:3]
    padded = pad_to_multiple(picture, model.multiple).astype(precision) / 255
    with torch.inference_mode():
        expected = np.moveaxis(theirs.run(to_torch(padded)).numpy(), 1, -1)[:, :height, :width]
    return difference(DERAINED, derainer.unclipped(picture), expected)


def _compare_gradients(
    params: Mapping[str, Any], model: ModelConfig, theirs: TorchSide, rainy: np.ndarray
) -> Difference:
    """Gradients of the paper's loss, the mean absolute error (eq. 7), at the parameter with the largest difference."""
    import torch

    # The clean side differs by ±1, so that rounding cannot change the sign of a difference and with it the gradient.
    clean = rainy + np.random.default_rng(0).choice((-1.0, 1.0), rainy.shape)
    loss = torch.nn.L1Loss()(theirs.run(to_torch(rainy)), to_torch(clean))
    if not loss.requires_grad:
        return Difference(GRADIENTS, np.inf, np.inf, NO_GRADIENTS)
    found = torch.autograd.grad(loss, list(theirs.tensors.values()), allow_unused=True, materialize_grads=True)
    in_their_order = {name: to_flax_layout(value.numpy()) for name, value in zip(theirs.tensors, found, strict=True)}
    expected = flatten(reorder_bands(unflatten(in_their_order), model, theirs.band_order))
    ours = _gradients(params, model, rainy, clean)
    least = _LEAST_SHARE * max(float(np.abs(value).max()) for value in expected.values())
    rows = [difference(name, ours[name], value, least) for name, value in expected.items()]
    worst = max(rows, key=lambda row: row.relative)
    return Difference(GRADIENTS, worst.absolute, worst.relative, f"{worst.note or 'largest'} at {worst.name}")


def _gradients(
    params: Mapping[str, Any], model: ModelConfig, rainy: np.ndarray, clean: np.ndarray
) -> dict[str, np.ndarray]:
    """The gradients of a training step, from an optimiser that stores them instead of using them."""
    config = ExperimentConfig(model=model, train=TrainConfig(precision="float64"))
    keeping = optax.GradientTransformation(
        init=lambda params: jax.tree.map(jnp.zeros_like, params),
        update=lambda updates, state, params=None: (updates, updates),
    )
    step = quick_jit(make_step(config, keeping, jnp.zeros_like, lambda resident, batch: batch, axis=None))
    state, _ = step(create_state(config, keeping, params), None, (rainy, clean))
    return {name: np.asarray(value) for name, value in flatten(state.opt_state).items()}
