"""The time that the hardware allows: arithmetic over the measured matrix-product rate, traffic over copy bandwidth."""

import math

from benchmarks.work import Work
from multifocal_jax.cost import blocks, count_macs, count_parameters
from multifocal_jax.models.layers import Conv
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
    values = count_parameters(work.model)
    for block, given, made in blocks(work.model, (work.batch, *_padded(work), 3)):
        # of a CSSAB the query or value, the skip and the result
        values += math.prod(given) + math.prod(made) if isinstance(block, Conv) else 3 * math.prod(given)
    return values


def _padded(work: Work) -> tuple[int, int]:
    """Height and width as the network sees them."""
    return round_up(work.height, work.model.multiple), round_up(work.width, work.model.multiple)
