"""Compares the programs that `derain` and training run with a PyTorch network.

They differ from the paper's formulation, whose intermediates are compared: pictures are padded and processed in strips
of rows and in a loop over the modules, and gradients have their own formulas. So both programs are built here by the
same code as for `derain` and training.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from multifocal_jax.config import ExperimentConfig, ModelConfig, Precision, TrainConfig
from multifocal_jax.evaluation.inference import Derainer
from multifocal_jax.interop.bands import OUR_ORDER, BandOrder, reorder_bands
from multifocal_jax.interop.comparison import Difference, difference
from multifocal_jax.interop.inputs import Inputs
from multifocal_jax.interop.names import to_flax_layout
from multifocal_jax.padding import pad_to_multiple
from multifocal_jax.training.state import create_state
from multifocal_jax.training.step import make_step
from multifocal_jax.weights import flatten, unflatten

if TYPE_CHECKING:
    import torch

DERAINED = "output as `derain` computes it"
GRADIENTS = "gradients as training computes them"
NO_GRADIENTS = "the network computes none: not judged"
# A difference is relative to the largest gradient of its parameter, but at least to this part of the largest of all:
# some parameters have no influence, and their gradients are rounding errors only.
_LEAST_SHARE = 1e-4


@dataclass(frozen=True)
class TorchSide:
    """A PyTorch network to compare with.

    Attributes:
        run: (B, 3, H, W) in [0, 1] → the same, de-rained.
        tensors: its parameters by the names of ours.
        band_order: of its wavelet bands.
    """

    run: Callable[["torch.Tensor"], "torch.Tensor"]
    tensors: Mapping[str, "torch.Tensor"]
    band_order: BandOrder = OUR_ORDER


def compare_programs(
    params: Mapping[str, Any], model: ModelConfig, theirs: TorchSide, inputs: Inputs, precision: Precision
) -> list[Difference]:
    """Compare the result of `derain` on the photograph and, in float64, the gradients of training on the crops.

    In float32 gradients are left out: every activation that rounding pushes across the edge of a ReLU changes them by
    more than any useful tolerance.

    Args:
        params: parameters of the JAX network.
        model: the architecture.
        theirs: the network to compare with, in `precision`.
        inputs: of both networks.
        precision: of both computations; float64 needs `jax.enable_x64`.
    """
    rows = []
    if inputs.photograph is not None:
        rows.append(_compare_derained(params, model, theirs, inputs.photograph, precision))
    if precision == "float64" and (pair := inputs.pair(model.multiple)):
        rows.append(_compare_gradients(params, model, theirs, *pair))
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
        expected = np.moveaxis(theirs.run(_to_torch(padded)).numpy(), 1, -1)[:, :height, :width]
    return difference(DERAINED, derainer.unclipped(picture), expected)


def _compare_gradients(
    params: Mapping[str, Any], model: ModelConfig, theirs: TorchSide, rainy: np.ndarray, clean: np.ndarray
) -> Difference:
    """Gradients of the paper's loss, the mean absolute error (eq. 7), at the parameter with the largest difference."""
    import torch

    loss = torch.nn.L1Loss()(theirs.run(_to_torch(rainy)), _to_torch(clean))
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
    step = make_step(config, keeping, jnp.zeros_like, lambda resident, batch: batch, axis=None)
    # One run does not repay an optimised compilation.
    step = jax.jit(step, compiler_options={"xla_backend_optimization_level": 0})
    state, _ = step(create_state(config, keeping, params), None, (rainy, clean))
    return {name: np.asarray(value) for name, value in flatten(state.opt_state).items()}


def _to_torch(images: np.ndarray) -> "torch.Tensor":
    import torch

    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
