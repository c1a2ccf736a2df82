"""Compile the whole train step for TPU slices that are not at hand, and say what a step takes.

    pip install 'jax[tpu]'    # for libtpu, the compiler; no TPU is needed
    python benchmarks/tpu_topology.py --config configs/rain200h_pod.py --topologies v5e:2x4 v5e:16x16

Memory, FLOPs and the bytes of the gradients' all-reduce are the compiler's for one chip. The times are predictions: the
larger of FLOPs over the chip's peak and bytes over its memory bandwidth, plus the all-reduce over the links of a ring.
"""

import argparse
import math
import os
import re
from typing import Any

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

# TPU v5e, per chip (Google Cloud's "TPU v5e" page): bfloat16 peak, memory bandwidth, links between chips
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


def compile_step(config: ExperimentConfig, topology: str) -> tuple[int, Any]:
    """Number of chips and the train step compiled for all of them."""
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


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topologies", nargs="+", default=["v5e:2x4", "v5e:16x16"])
    config, arguments = parse_experiment(parser)
    columns = ("slice", "chips", "crops per chip", "memory", "TFLOP", "gradients", "compute", "all-reduce", "steps/s")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for topology in arguments.topologies:
        chips, compiled = compile_step(config, topology)
        memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
        held = memory.temp_size_in_bytes + memory.argument_size_in_bytes
        summed = reduced_bytes(compiled.as_text())
        compute = max(cost["flops"] / PEAK_FLOPS, cost["bytes accessed"] / MEMORY_BYTES)
        reduce = 2 * (chips - 1) / chips * summed / LINK_BYTES
        print(
            f"| {topology} | {chips} | {config.train.batch_size // chips} | {held / 1e9:.2f} GB | "
            f"{cost['flops'] / 1e12:.2f} | {summed / 1e6:.1f} MB | {compute * 1e3:.1f} ms | {reduce * 1e3:.2f} ms | "
            f"{1 / (compute + reduce):.0f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    exit_on_user_error(main)
