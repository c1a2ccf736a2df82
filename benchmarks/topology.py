"""Compile the whole train step for TPU slices and GPUs that are not at hand, and say what a step takes.

    pip install 'jax[tpu]'    # for libtpu, the compiler; no TPU is needed
    python -m benchmarks.topology --config configs/rain200h_pod.py --topologies v5e:2x4 v5e:16x16
    pip install 'jax[cuda13]' # for XLA's compiler for GPUs; no GPU and no driver is needed
    python -m benchmarks.topology --config configs/rain200h.py --topologies h200 --config.train.precision=bfloat16
    python -m benchmarks.topology --config configs/rain200h.py --topologies here    # one device of this machine

Memory, FLOPs and the bytes of the gradients' all-reduce are the compiler's for one chip. The times for TPUs v5e are
predictions: the larger of FLOPs over the chip's peak and bytes over its memory bandwidth, plus the all-reduce over the
links of a ring. For a GPU the FLOPs are those of the convolutions and attentions, and the bytes what every kernel reads
and writes. On a GPU itself XLA times kernels and may choose others.
"""

import argparse
import math
import os
import re
import time
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import NamedSharding

from benchmarks.kernels import byte_count, count_launches
from benchmarks.limits import demand_of
from benchmarks.work import Work
from multifocal_jax.cli.flags import exit_on_user_error, parse_experiment
from multifocal_jax.config import ExperimentConfig
from multifocal_jax.errors import UserError
from multifocal_jax.ops import gpu_kernels
from multifocal_jax.training.optimizer import make_optimizer, make_schedule
from multifocal_jax.training.parallel import REPLICATED, SPLIT, DataParallel, check_batch_size
from multifocal_jax.training.state import create_state
from multifocal_jax.training.step import make_step


class TopologyError(UserError):
    """A step cannot be compiled for a topology. The message says why, and the way out."""


# TPU v5e, per chip (https://docs.cloud.google.com/tpu/docs/v5e): bfloat16 peak, memory bandwidth, links between chips,
# which are given as 400 GB/s for both directions together.
PEAK_FLOPS, MEMORY_BYTES, LINK_BYTES = 197e12, 819e9, 200e9
# Without a GPU XLA cannot time kernels; the one that it takes untimed for products, of Triton, may not fit them.
UNTIMED = {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}


class Facts(NamedTuple):
    """What the compiler says of one chip's program."""

    crops: int
    flops: float
    moved: float  # bytes read and written, in memory or in the chip's caches
    summed: int  # bytes of the gradients' all-reduce
    launches: int  # of kernels; 0 if it is no GPU's


def reduced_bytes(program: str) -> int:
    """Bytes that the all-reduces of a compiled program sum, from its text."""
    found = (re.search(r"= (.*?) all-reduce(?:-start)?\(", line) for line in program.splitlines())
    return sum(byte_count(line[1]) for line in found if line)


def devices_of(topology: str) -> list[Any]:
    """The chips of a slice, the GPUs of a machine (h200, h200:8), or for "here" one device of this machine.

    Raises:
        TopologyError: there is no such thing, or no compiler for it.
    """
    if topology == "here":
        return jax.local_devices()[:1]
    gpus = re.fullmatch(r"h200(?::([1-9]\d*))?", topology)
    try:
        if not gpus:
            return list(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)
        target = Path(__file__).with_name("h200.txtpb").read_text()
        shape = f"1x1x{gpus[1] or 1}"
        return list(topologies.get_topology_desc(topology, "cuda", target_config=target, topology=shape).devices)
    except NotImplementedError:
        raise TopologyError("XLA's compiler for NVIDIA GPUs is not installed; pip install '.[cuda]'") from None
    except RuntimeError as error:
        if "not installed" in str(error):
            raise TopologyError("libtpu, the compiler for TPUs, is not installed; pip install '.[tpu]'") from None
        raise TopologyError(
            f"there is no compiling for topology {topology} ({str(error).splitlines()[0]}); take a TPU slice such as "
            "v5e:2x4, h200, h200:8 or here"
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
    lowered = step.lower(state, (), {"rainy": crops, "clean": crops})
    return lowered.compile(UNTIMED if is_absent_gpu(devices) else None)


def is_absent_gpu(devices: list[Any]) -> bool:
    """Whether these are GPUs that are compiled for without being there."""
    return devices[0].platform != "cpu" and "H200" in devices[0].device_kind and devices[0] not in jax.local_devices()


def facts_of(config: ExperimentConfig, devices: list[Any], compiled: Any) -> Facts:
    """What a step takes, of one chip."""
    crops, program = config.train.batch_size // len(devices), compiled.as_text()
    if devices[0].platform not in ("gpu", "cuda"):
        cost = compiled.cost_analysis()
        return Facts(crops, cost["flops"], cost["bytes accessed"], reduced_bytes(program), 0)
    side, launches = config.data.crop_size, count_launches(program)
    demand = demand_of(Work("training", "gpu", side, side, crops, config.train.precision, config.model))
    return Facts(crops, demand.flops, launches.bytes, reduced_bytes(program), launches.kernels)


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
    named = [(topology, devices_of(topology)) for topology in arguments.topologies]
    for _, devices in named:
        check_batch_size(config.train.batch_size, config.train.accumulate, len(devices))
    if any(is_absent_gpu(devices) for _, devices in named):
        os.environ.setdefault(gpu_kernels.VARIABLE, "untried")
    columns = (
        "slice",
        "chips",
        "crops per chip",
        "memory per chip",
        "of it arguments",
        "GFLOP",
        "GB moved",
        "launches",
    )
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
            f"{facts.launches or ''} | {facts.summed / 1e6:.1f} MB | {took:.0f} s |",
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
