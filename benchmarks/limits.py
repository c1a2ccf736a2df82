"""The time that the hardware allows: arithmetic over the measured matrix-product rate, traffic over copy bandwidth."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks.work import Work
from multifocal_jax.cost import count_macs, count_parameters
from multifocal_jax.models import MultifocalNet, parameter_shapes
from multifocal_jax.models.channel_cssab import ChannelCSSAB
from multifocal_jax.models.layers import Conv
from multifocal_jax.models.spatial_cssab import SpatialCSSAB
from multifocal_jax.padding import round_up

ADAM_VALUES = 7  # read gradient, parameter and both moments; write the last three


def demand_of(work: Work) -> dict[str, float]:
    """The `flops` and `bytes` of one run; a training step is three passes (result, both gradients), then Adam.

    FLOPs are twice the multiply-accumulates of convolutions and attention products. Bytes assume that each of these
    reads its input once and writes its result once, and that everything else (activations, wavelets, pooling, sums) is
    fused.
    """
    flops = 2.0 * sum(count_macs(work.model, *_padded(work)).values()) * work.batch
    traffic = float(count_traffic(work) * work.bytes_per_value)
    if work.task != "training":
        return {"flops": flops, "bytes": traffic}
    return {"flops": 3 * flops, "bytes": 3 * traffic + 4 * ADAM_VALUES * count_parameters(work.model)}


def count_traffic(work: Work) -> int:
    """Values read and written by one pass, layer by layer, parameters included once."""
    values = 0

    def count(call: Any, arguments: Any, keywords: Any, context: nn.module.InterceptorContext) -> Any:
        nonlocal values
        result = call(*arguments, **keywords)
        if context.method_name == "__call__":
            if isinstance(context.module, Conv):
                values += math.prod(arguments[0].shape) + math.prod(result.shape)
            elif isinstance(context.module, SpatialCSSAB | ChannelCSSAB):  # query or value, the skip, the result
                values += 3 * math.prod(arguments[0].shape)
        return result

    network = MultifocalNet(work.model)  # layers that can be counted one by one
    picture = jax.ShapeDtypeStruct((work.batch, *_padded(work), 3), jnp.float32)
    with nn.intercept_methods(count):
        params = parameter_shapes(work.model)
        values = count_parameters(work.model)
        jax.eval_shape(network.apply, {"params": params}, picture)
    return values


def _padded(work: Work) -> tuple[int, int]:
    """Height and width as the network sees them."""
    return round_up(work.height, work.model.multiple), round_up(work.width, work.model.multiple)
