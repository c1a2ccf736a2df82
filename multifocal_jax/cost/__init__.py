"""The cost of the network: parameters, multiply-accumulates, time and memory by picture size."""

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from multifocal_jax.config import ModelConfig, Precision
from multifocal_jax.models import MultifocalNet, parameter_shapes
from multifocal_jax.models.channel_cssab import ChannelCSSAB
from multifocal_jax.models.layers import Conv
from multifocal_jax.models.spatial_cssab import SpatialCSSAB
from multifocal_jax.padding import round_up


@dataclass(frozen=True)
class Cost:
    """Cost of one picture.

    Attributes:
        height: in pixels, a multiple of `ModelConfig.multiple`.
        width: likewise.
        macs: multiply-accumulates by kind of operation, see `count_macs`.
        seconds: median of the runs after the first; NaN if not measured, or if the picture does not fit into memory.
        compile_seconds: of the first run.
        memory: bytes in addition to those of the operating system and JAX itself, including weights; 0 if not measured.
    """

    height: int
    width: int
    macs: dict[str, int]
    seconds: float = math.nan
    compile_seconds: float = math.nan
    memory: int = 0


def count_parameters(model: ModelConfig) -> int:
    """Number of trained values."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(_shapes(model)))


def count_macs(model: ModelConfig, height: int, width: int) -> dict[str, int]:
    """Multiply-accumulates of one picture, as papers count them; its sides are multiples of `model.multiple`.

    Convolutions ("convolutions") and the matrix products of the attentions are counted ("spatial attention": Q Kᵀ and
    M V of eqs. 4 and 5; "channel attention": Kᵀ Q and V A of eq. 6); biases, activations, softmax, pooling, the wavelet
    and resizing are not. The paper's formulation is counted, however it is computed.
    """
    macs: Counter[str] = Counter()
    for block, given, made in blocks(model, (1, height, width, 3)):
        if isinstance(block, Conv):
            macs["convolutions"] += block.kernel_size**2 * given[-1] * math.prod(made)
        elif isinstance(block, SpatialCSSAB):
            macs["spatial attention"] += 2 * math.prod(given) * model.anchors
        else:
            macs["channel attention"] += (model.anchors + math.prod(given[:3])) * model.channels**2 // model.heads
    return dict(macs)


def blocks(model: ModelConfig, shape: tuple[int, ...]) -> list[tuple[nn.Module, tuple[int, ...], tuple[int, ...]]]:
    """Convolutions and CSSABs for pictures (B, H, W, 3), with the shapes of their first argument and their result."""
    found = []

    def note(call: Any, arguments: Any, keywords: Any, context: nn.module.InterceptorContext) -> Any:
        result = call(*arguments, **keywords)
        if context.method_name == "__call__" and isinstance(context.module, Conv | SpatialCSSAB | ChannelCSSAB):
            found.append((context.module, arguments[0].shape, result.shape))
        return result

    variables = {"params": _shapes(model)}  # which calls the blocks, too
    pictures = jax.ShapeDtypeStruct(shape, jnp.float32)
    with nn.intercept_methods(note):
        jax.eval_shape(MultifocalNet(model).apply, variables, pictures)
    return found


def measure(
    model: ModelConfig, sizes: Sequence[tuple[int, int]], *, precision: Precision = "float32", repeats: int = 3
) -> list[Cost]:
    """Compile and run the network, with random weights, on pictures of these heights and widths, padded to multiples.

    `repeats` are the runs after the first, for the median; 0 measures neither time nor memory.
    """
    from multifocal_jax.evaluation.inference import Derainer, TooLargeError

    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.uniform(-0.01, 0.01, leaf.shape).astype(np.float32), _shapes(model))
    costs = []
    for size in sizes:
        height, width = (round_up(side, model.multiple) for side in size)
        costs.append(Cost(height, width, count_macs(model, height, width)))
        if repeats == 0:
            continue
        picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        derainer = Derainer(params, model, precision=precision)  # one for each, as sizes would share programs
        times = []
        try:
            for _ in range(repeats + 1):
                begin = time.perf_counter()
                derainer(picture)
                times.append(time.perf_counter() - begin)
            memory = derainer.planned_memory(picture.shape, picture.dtype)
        except TooLargeError as error:
            costs[-1] = replace(costs[-1], memory=error.needed)
            continue
        middle = float(np.median(times[1:]))
        costs[-1] = replace(costs[-1], seconds=middle, compile_seconds=times[0] - middle, memory=memory)
    return costs


def to_markdown(model: ModelConfig, costs: Sequence[Cost]) -> str:
    """A Markdown table as in papers."""
    lines = [f"{count_parameters(model):,} parameters", ""]
    lines += ["| width × height | multiply-accumulates | time | compilation | memory |", "|---|---|---|---|---|"]
    for cost in costs:
        cells = [f"{cost.width}×{cost.height}", f"{sum(cost.macs.values()) / 1e9:.2f} G"]
        if math.isnan(cost.seconds):
            cells += ["does not fit" if cost.memory else "not run"] * 2
        else:
            cells += [f"{cost.seconds:.3g} s", f"{cost.compile_seconds:.1f} s"]
        cells.append(f"{cost.memory / 1e9:.2f} GB" if cost.memory else "not run")
        lines.append("| " + " | ".join(cells) + " |")
    shares = sum((Counter(cost.macs) for cost in costs), Counter())
    listed = ", ".join(f"{count / shares.total():.1%} {kind}" for kind, count in shares.items())
    lines += ["", f"Of the multiply-accumulates: {listed}"]
    return "\n".join(lines)


_shapes = lru_cache(maxsize=8)(parameter_shapes)
