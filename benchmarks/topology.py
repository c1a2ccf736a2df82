"""Compile the whole training step for TPU slices that need not be available, and report what a step takes.

    pip install 'jax[tpu]'    # for libtpu, the compiler; no TPU is needed
    python -m benchmarks.topology --config rain200h_pod --topologies v5e:2x4 v5e:16x16
    python -m benchmarks.topology --config rain200h --topologies here    # one device of this machine

Memory, FLOPs and the bytes of the gradients' all-reduce are the compiler's for one chip. The times for TPUs v5e are
predictions: the larger of FLOPs over the chip's peak and bytes over its memory bandwidth, plus the all-reduce over the
links of a ring.
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

from multifocal_jax.cli.flags import add_config_arguments, exit_on_user_error, parse, read_config
from multifocal_jax.config import ExperimentConfig
from multifocal_jax.errors import UserError
from multifocal_jax.training.optimizer import make_optimizer, make_schedule
from multifocal_jax.training.parallel import REPLICATED, SPLIT, DataParallel, check_batch_size
from multifocal_jax.training.state import create_state
from multifocal_jax.training.step import make_step


class TopologyError(UserError):
    """A step cannot be compiled for a topology. The message says why, and how to fix it."""


# TPU v5e, per chip (https://docs.cloud.google.com/tpu/docs/v5e): bfloat16 peak, memory bandwidth, links between chips,
# which are given as 400 GB/s for both directions together.
PEAK_FLOPS, MEMORY_BYTES, LINK_BYTES = 197e12, 819e9, 200e9
WIDTHS = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8}


class Facts(NamedTuple):
    """The compiler's figures for one chip's program."""

    crops: int
    flops: float
    moved: float  # bytes read and written, in memory or in the chip's caches
    summed: int  # bytes of the gradients' all-reduce


def byte_count(shape: str) -> int:
    """Bytes of a shape as HLO writes it, of all its parts if it is a tuple."""
    found = re.findall(r"(\w+)\[([\d,]*)\]", shape)
    return sum(WIDTHS.get(kind, 4) * math.prod(int(n) for n in size.split(",") if n) for kind, size in found)


def reduced_bytes(program: str) -> int:
    """Bytes that the all-reduces of a compiled program sum, from its text."""
    found = (re.search(r"= (.*?) all-reduce(?:-start)?\(", line) for line in program.splitlines())
    return sum(byte_count(line[1]) for line in found if line)


def devices_of(topology: str) -> list[Any]:
    """The chips of a slice, or for "here" one device of this machine.

    Raises:
        TopologyError: there is no such slice, or no compiler for it.
    """
    if topology == "here":
        return jax.local_devices()[:1]
    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)
    except RuntimeError as error:
        if "not installed" in str(error):
            raise TopologyError("libtpu, the compiler for TPUs, is not installed; pip install '.[tpu]'") from None
        raise TopologyError(
            f"there is no compiling for topology {topology} ({str(error).splitlines()[0]}); take a TPU slice such as "
            "v5e:2x4, or here"
        ) from None


def compile_step(config: ExperimentConfig, devices: list[Any]) -> Any:
    """The train step compiled for all of these devices."""
    schedule = make_schedule(config.train, 450, 315_000)
    optimizer = make_optimizer(config.train, schedule)
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
    step: Any = parallel.step
    return step.lower(state, (), {"rainy": crops, "clean": crops}).compile()


def facts_of(config: ExperimentConfig, devices: list[Any], compiled: Any) -> Facts:
    """What a step takes, of one chip."""
    cost = compiled.cost_analysis()
    crops = config.train.batch_size // len(devices)
    return Facts(crops, cost["flops"], cost["bytes accessed"], reduced_bytes(compiled.as_text()))


def seconds(crops: float, chips: int, facts: Facts) -> tuple[float, float]:
    """Predicted seconds for computing a step with this many crops per chip, and for the all-reduce over the chips."""
    compute = max(facts.flops / PEAK_FLOPS, facts.moved / MEMORY_BYTES) * crops / facts.crops
    return compute, 2 * (chips - 1) / chips * facts.summed / LINK_BYTES


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--topologies", nargs="+", default=["v5e:2x4", "v5e:16x16"], metavar="NAME")
    add_config_arguments(parser)
    arguments = parse(parser)
    config = read_config(arguments)
    named = [(topology, devices_of(topology)) for topology in arguments.topologies]
    for _, devices in named:
        check_batch_size(config.train.batch_size, config.train.accumulate, len(devices))
    columns = ("slice", "chips", "crops per chip", "memory per chip", "of it arguments", "GFLOP", "GB moved")
    columns = (*columns, "gradients summed", "compiling")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    found = []
    for topology, devices in named:
        begin = time.perf_counter()
        compiled = compile_step(config, devices)
        took, chips = time.perf_counter() - begin, len(devices)
        memory, facts = compiled.memory_analysis(), facts_of(config, devices, compiled)
        held = memory.temp_size_in_bytes + memory.argument_size_in_bytes
        found.append((topology, chips, facts))
        print(
            f"| {topology} | {chips} | {facts.crops} | {held / 1e9:.2f} GB | "
            f"{memory.argument_size_in_bytes / 1e9:.2f} GB | {facts.flops / 1e9:.1f} | {facts.moved / 1e9:.2f} | "
            f"{facts.summed / 1e6:.1f} MB | {took:.0f} s |",
            flush=True,
        )
    slices = [item for item in found if item[0].startswith("v5e:")]
    if slices:
        predict(config.train.batch_size, slices)
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
