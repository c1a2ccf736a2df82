"""Compare this project with its PyTorch twin, alternating in one run: python -m benchmarks [--rows NAME …]."""

import argparse
import json
import os
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.processes import SideError
from benchmarks.rows import OURS, ROWS, Row, quick, rates_work
from benchmarks.table import HEADER, Result, describe_rates, limit_of, lines, notes
from benchmarks.timing import Times, time_alone, time_together
from benchmarks.work import Platform, SideConfig
from multifocal_jax.cli.flags import exit_on_user_error


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns 1 if a row failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, allow_abbrev=False)
    names = [row.name for row in ROWS]
    parser.add_argument("--rows", nargs="+", choices=names, metavar="NAME", help=f"only these of {', '.join(names)}")
    parser.add_argument("--platform", choices=("cpu", "gpu"), help="rows of this platform; default: the best available")
    parser.add_argument("--ours", action="store_true", help="leave PyTorch out")
    parser.add_argument("--rounds", type=int, metavar="N", help="samples per side, instead of the row's own number")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements")
    parser.add_argument("--quick", action="store_true", help="miniature sizes, to check that everything runs")
    arguments = parser.parse_args(argv)

    here: Platform = arguments.platform or best_platform()
    torch = not arguments.ours and find_spec("torch") is not None
    rates, machine = measure_machine(here, torch, arguments.quick)
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "command": shlex.join(["python", "-m", "benchmarks", *(sys.argv[1:] if argv is None else argv)]),
        "machine": machine,
        "rates": rates,
    }
    print(f"{report['date']}, {machine}\n`{report['command']}`\n{describe_rates(rates)}\n\n{HEADER}", flush=True)
    results = []
    for row in ROWS:
        if arguments.rows and row.name not in arguments.rows:
            continue
        sides = tuple(side for side in row.sides if side.framework == "jax" or (torch and runs(side, here)))
        row = replace(row, rounds=arguments.rounds or row.rounds, sides=sides)
        result = measure(quick(row) if arguments.quick else row, here, rates)
        results.append(result)
        print("\n".join(lines(result)), flush=True)
        for note in notes(result):
            print(f"  {note}", file=sys.stderr, flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(report | {"rows": [r.to_json() for r in results]}, indent=1))
    remarks = [f"- {note}" for result in results for note in notes(result)]
    if remarks:
        print("", *remarks, sep="\n")
    return 1 if any(result.failed for result in results) else 0


def runs(side: SideConfig, platform: Platform) -> bool:
    """Whether the twin can be set up so: `torch.compile` needs a C++ compiler on a CPU."""
    return not side.compiled or platform == "gpu" or any(map(shutil.which, ("g++", "clang++", "c++")))


def best_platform() -> Platform:
    return "gpu" if Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists() else "cpu"


def measure(row: Row, here: Platform, rates: dict[str, float]) -> Result:
    """Measure one row; errors become part of the result."""
    if row.work.platform != here:
        return Result(row, reason=f"this run is of {here.upper()} rows")
    if row.kind == "start":
        from benchmarks.start import time_starts

        return Result(row, time_starts(row.work, row.rounds))
    time_sides = time_alone if row.kind == "alone" else time_together
    sides = time_sides(row.work, list(row.sides), row.rounds, row.sample)
    return Result(row, sides, limit=limit_of(sides[0], rates))


def measure_machine(here: Platform, torch: bool, small: bool) -> tuple[dict[str, float], str]:
    """The better of both frameworks' rates, and a description of the machine.

    Raises:
        SideError: JAX does not run here.
    """
    work = rates_work(here, small)
    sides = [OURS, SideConfig("torch")] if torch else [OURS]
    measured: list[Times] = time_alone(work, sides, rounds=1)
    if measured[0].failed:
        raise SideError(measured[0].failed)
    facts = [times.facts for times in measured if not times.failed]
    rates = {name: max(fact[name] for fact in facts) for name in ("flops_per_second", "bytes_per_second")}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    device = f"{facts[0]['device']}, " if here == "gpu" else ""
    versions = f"Python {platform.python_version()}, JAX {facts[0]['version']}"
    versions += f", PyTorch {facts[1]['version']}" if len(facts) > 1 else ""
    return rates, f"{device}{cores} cores of {processor()}, {versions}"


def processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    found = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return found[0] if found else platform.machine()


if __name__ == "__main__":
    exit_on_user_error(main)
