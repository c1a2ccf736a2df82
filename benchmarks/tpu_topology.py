"""Compile the whole train step for TPU slices that are not at hand, and say what a step takes.

    pip install 'jax[tpu]'    # for libtpu, the compiler; no TPU is needed
    python benchmarks/tpu_topology.py --config configs/rain200h_pod.py --topologies v5e:2x4 v5e:16x16
    python benchmarks/tpu_topology.py --config configs/rain200h.py --topologies here    # one device of this machine

Memory, FLOPs and the bytes of the gradients' all-reduce are the compiler's for one chip. The times are predictions: the
larger of FLOPs over the chip's peak and bytes over its memory bandwidth, plus the all-reduce over the links of a ring.
"""

import argparse
import math
import os
import re
import time
from typing import Any, NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import NamedSharding

from multifocal_jax.cli.flags import exit_on_user_error, parse_experiment
from multifocal_jax.config import ExperimentConfig
from multifocal_jax.training.optimizer import make_optimizer, make_schedule
from multifocal_jax.training.parallel import REPLICATED, SPLIT, DataParallel, check_batch_size
from multifocal_jax.training.state import create_state
from multifocal_jax.training.step import make_step

# TPU v5e, per chip (https://docs.cloud.google.com/tpu/docs/v5e): bfloat16 peak, memory bandwidth, links between chips,
# which are given as 400 GB/s for both directions together.
PEAK_FLOPS, MEMORY_BYTES, LINK_BYTES = 197e12, 819e9, 200e9
WIDTHS = {"f32": 4, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "s8": 1, "u8": 1, "pred": 1}


def reduced_bytes(program: str) -> int:
    """Bytes that the all-reduces of a compiled program sum, from its text."""
    total = 0
    for line in program.splitlines():
        found = re.search(r"= (.*?) all-reduce(?:-start)?\(", line)
        for kind, shape in re.findall(r"(\w+)\[([\d,]*)\]", found.group(1)) if found else []:
            total += WIDTHS.get(kind, 4) * math.prod(int(size) for size in shape.split(",") if size)
    return total


class Facts(NamedTuple):
    """What the compiler says of one chip's program."""

    crops: int
    flops: float
    moved: float  # bytes read and written, in memory or in the chip's caches
    summed: int  # bytes of the gradients' all-reduce


def compile_step(config: ExperimentConfig, topology: str) -> tuple[int, Any]:
    """Number of chips and the train step compiled for all of them; "here" is one device of this machine."""
    if topology == "here":
        devices = jax.local_devices()[:1]
    else:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    check_batch_size(config.train.batch_size, config.train.accumulate, len(devices))
    optimizer, schedule = make_optimizer(config.train, 450, 315_000), make_schedule(config.train, 450, 315_000)
    step = make_step(config, optimizer, schedule, lambda resident, batch: (batch["rainy"] / 255, batch["clean"] / 255))
    parallel = DataParallel("shard_map", step, devices)
    side = config.data.crop_size
    crops = jax.ShapeDtypeStruct(
        (config.train.batch_size, side, side, 3), jnp.uint8, sharding=NamedSharding(parallel.mesh, SPLIT)
    )
    replicated = NamedSharding(parallel.mesh, REPLICATED)
    state = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=replicated), create_state(config, optimizer)
    )
    return len(devices), parallel.step.lower(state, (), {"rainy": crops, "clean": crops}).compile()  # pyright: ignore


def seconds(crops: float, chips: int, facts: Facts) -> tuple[float, float]:
    """Predicted seconds of computing a step of so many crops per chip, and of the all-reduce over the chips."""
    compute = max(facts.flops / PEAK_FLOPS, facts.moved / MEMORY_BYTES) * crops / facts.crops
    return compute, 2 * (chips - 1) / chips * facts.summed / LINK_BYTES


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--topologies", nargs="+", default=["v5e:2x4", "v5e:16x16"], metavar="NAME")
    config, arguments = parse_experiment(parser)
    columns = ("slice", "chips", "crops per chip", "memory per chip", "of it arguments", "GFLOP", "GB moved")
    columns = (*columns, "gradients summed", "compiling")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    found = []
    for topology in arguments.topologies:
        begin = time.perf_counter()
        chips, compiled = compile_step(config, topology)
        took = time.perf_counter() - begin
        memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
        held = memory.temp_size_in_bytes + memory.argument_size_in_bytes
        crops, summed = config.train.batch_size // chips, reduced_bytes(compiled.as_text())
        found.append((topology, chips, Facts(crops, cost["flops"], cost["bytes accessed"], summed)))
        print(
            f"| {topology} | {chips} | {crops} | {held / 1e9:.2f} GB | {memory.argument_size_in_bytes / 1e9:.2f} GB | "
            f"{cost['flops'] / 1e9:.1f} | {cost['bytes accessed'] / 1e9:.2f} | {summed / 1e6:.1f} MB | {took:.0f} s |",
            flush=True,
        )
    found = [item for item in found if item[0] != "here"]
    if found:
        predict(config.train.batch_size, found)
    return 0


def predict(batch_size: int, found: list[tuple[str, int, Facts]]) -> None:
    """Print the scaling over chips that the compiled programs predict."""
    columns = (
        "chips",
        "crops per chip",
        "computing",
        "all-reduce",
        "steps/s",
        "crops/s",
        "time lost to the all-reduce",
    )
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for chips in (8, 16, 32, 64, 128, 256):
        if batch_size % chips:
            continue
        crops = batch_size // chips
        _, _, facts = min(found, key=lambda item: abs(math.log(item[2].crops / crops)))  # the nearest that is compiled
        compute, reduce = seconds(crops, chips, facts)
        print(
            f"| {chips} | {crops} | {compute * 1e3:.2f} ms | {reduce * 1e3:.2f} ms | {1 / (compute + reduce):.1f} | "
            f"{batch_size / (compute + reduce):.0f} | {reduce / (compute + reduce):.1%} |"
        )
    for topology, chips, facts in found:
        compute, reduce = seconds(1, chips, facts)
        print(
            f"\nBy {topology}, the all-reduce takes a tenth of the time at {9 * reduce / compute:.2g} crops per chip, "
            f"half of it at {reduce / compute:.2g}."
        )


if __name__ == "__main__":
    exit_on_user_error(main)
