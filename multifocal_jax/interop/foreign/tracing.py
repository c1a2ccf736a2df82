"""Compares the JAX network with a user's own PyTorch network, convolution by convolution."""

import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from multifocal_jax.interop.bands import OUR_ORDER, BandOrder
from multifocal_jax.interop.comparison import FLOAT64_TOLERANCE, Comparison, Difference, difference
from multifocal_jax.interop.foreign.user_module import UserModule, record
from multifocal_jax.interop.inputs import Inputs
from multifocal_jax.interop.names import convolutions
from multifocal_jax.interop.running import quick_jit
from multifocal_jax.interop.verification import DERAINED, GRADIENTS, NO_GRADIENTS, TorchSide, compare_programs, exactly
from multifocal_jax.models import MultifocalNet
from multifocal_jax.models.layers import Conv
from multifocal_jax.padding import pad_to_multiple
from multifocal_jax.weights import Weights

_FEEDS = {
    r"entrance\.(pyramid|shallow)": "the picture or the pyramid",
    r"entrance\.spatial": "the shallow convolutions, which have no activation",
    r"module_\d+\.(down|residual)_": "the spatial interaction before it, at this level, or its sum with its input",
    r"module_\d+\.channel": "the activation after the down convolution, or which level is read",
    r"module_\d+\.up_": "the channel interaction before it (heads, axis of the softmax, sum with its input)",
    r"module_\d+\.spatial": "pixel shuffle and activation after the up convolution, the long skip, or the level read",
    r"fusion\.merge": "the last spatial interaction, the global skip, the up-sampling, or the order of levels",
    r"fusion\.residual": "the activation after fusion.merge",
}


def compare_with(
    weights: Weights,
    user: UserModule,
    names: Mapping[str, str],
    inputs: Inputs,
    band_order: BandOrder = OUR_ORDER,
    trace: bool = True,
) -> Comparison:
    """Run both in float64 on CPU and compare the input and output of every convolution, and the final results.

    A convolution with another shape in the user's network (which may pool first, for example) is shown but not judged,
    and so are gradients that it does not compute; those of biases that it does not have are left out. Without `trace`
    the convolutions are left out.

    `names` are theirs for each of our convolutions, `band_order` is that of the wavelet bands in their network.
    """
    model, convs = weights.model, convolutions(weights.model)
    rows: list[Difference] = []
    with exactly("float64"):
        padded = pad_to_multiple(inputs.batch, model.multiple).astype(np.float64)
        ours, theirs = _flax_convolutions(weights, padded), record(user, padded)
        for conv in convs if trace else ():
            name = names[conv.flax]
            for end, values in (("input", theirs.inputs), ("output", theirs.outputs)):
                block = f"{conv.flax} {end}"
                if name in values:
                    found = np.moveaxis(values[name].numpy(), 1, -1)
                    flat = ours[block].reshape(len(padded), -1, ours[block].shape[-1])  # as linear layers take it
                    rows.append(difference(block, flat if flat.shape == found.shape else ours[block], found))
                else:
                    rows.append(Difference(block, np.inf, np.inf, f"{name} was not called"))
        incomparable = {row.name for row in rows if row.note}
        rows.append(difference("output", ours["output"], np.moveaxis(theirs.output.numpy(), 1, -1)))
        leaves = [(conv.flax, *leaf) for conv in convs for leaf in (("kernel", "weight"), ("bias", "bias"))]
        pairs = ((f"{ours}.{leaf}", user.tensor(f"{names[ours]}.{their_leaf}")) for ours, leaf, their_leaf in leaves)
        tensors = {name: tensor for name, tensor in pairs if tensor is not None}
        side = TorchSide(user.derain, tensors, band_order)
        rows += compare_programs(weights.params, model, side, inputs, "float64")
        incomparable |= {row.name for row in rows if row.note == NO_GRADIENTS}
    return Comparison(
        title=f"float64 on CPU against {type(user.network).__name__}, {inputs}",
        rows=tuple(rows),
        tolerance=FLOAT64_TOLERANCE,
        checked=frozenset(row.name for row in rows) - incomparable,
    )


def _flax_convolutions(weights: Weights, images: np.ndarray) -> dict[str, np.ndarray]:
    """Input and output of every convolution of the JAX network, and its output."""
    network = MultifocalNet(weights.model, dtype=jnp.float64, param_dtype=jnp.float64)

    @quick_jit
    def run(params: Any, images: jax.Array) -> dict[str, jax.Array]:
        seen: dict[str, jax.Array] = {}

        def hear(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            output = call(*args, **kwargs)
            if isinstance(context.module, Conv) and context.method_name == "__call__":
                name = ".".join(context.module.path)
                seen[f"{name} input"], seen[f"{name} output"] = args[0], output
            return output

        with nn.intercept_methods(hear):
            seen["output"] = network.apply({"params": params}, images)  # pyright: ignore[reportArgumentType]
        return seen

    params = jax.tree.map(lambda value: np.asarray(value, np.float64), weights.params)
    return {name: np.asarray(value) for name, value in run(params, jnp.asarray(images)).items()}


def where_to_look(comparison: Comparison) -> str:
    """What lies between the last point that agrees and the first that does not, in words."""
    first = comparison.first_over
    if first is None:
        return "no block diverges"
    if first.name in (DERAINED, GRADIENTS):
        return (
            "layer by layer the networks agree: the fault is in the program that this project makes of them; please "
            "report it"
        )
    conv, _, end = first.name.rpartition(" ")
    if first.name == "output":
        return "the first divergence is after the last convolution: in what is subtracted, clamped or added at the end"
    if end == "output":
        given = next(row for row in comparison.rows if row.name == f"{conv} input")
        agrees = f"its input has another shape there ({given.note})" if given.note else "its input agrees"
        return f"the first divergence is in the convolution {conv}: {agrees} (weights, stride, padding)"
    feeds = next(text for pattern, text in _FEEDS.items() if re.match(pattern, conv))
    return f"the first divergence is in what feeds {conv}: {feeds}"
