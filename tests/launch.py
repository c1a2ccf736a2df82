"""Starts an entry point several times on this machine, as one program of several processes."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(
    script: str,
    arguments: Sequence[str | Path] | Sequence[Sequence[str | Path]],
    processes: int,
    devices: int = 1,
    cwd: Path | None = None,
    slurm: bool = False,
) -> list["subprocess.Popen[str]"]:
    """Run `python SCRIPT ARGUMENTS` in several processes with several devices each; stderr can be read.

    They find each other by arguments, or by the variables that Slurm sets. `arguments` are those of all processes, or
    a list for each.
    """
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # set by an import in this process
    port, started = free_port(), []
    for index in range(processes):
        several = [f"--coordinator=127.0.0.1:{port}", f"--process-count={processes}", f"--process-id={index}"]
        if slurm:
            task = {"JOB_ID": 1, "STEP_NODELIST": "localhost", "NTASKS": processes, "PROCID": index, "LOCALID": index}
            environment |= {f"SLURM_{name}": str(value) for name, value in task.items()}
            environment["JAX_COORDINATOR_PORT"] = str(port)
            several = ["--distributed"]
        own = arguments if isinstance(arguments[0], str | Path) else arguments[index]
        command = [sys.executable, str(ROOT / script), *map(str, own), *(several if processes > 1 else [])]
        started.append(
            subprocess.Popen(
                command, env=environment, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
        )
    return started


def finish(started: Sequence["subprocess.Popen[str]"], timeout: float = 600) -> None:
    """Wait for all of them to end well."""
    for process in started:
        _, errors = process.communicate(timeout=timeout)
        assert process.returncode == 0, errors


def read_until(process: "subprocess.Popen[str]", beginning: str) -> list[str]:
    """Lines of stderr up to the first that begins so."""
    lines = []
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line)
        if line.startswith(beginning):
            return lines
    raise AssertionError("".join(lines))
