"""How much memory a computation needs and how much there is, so that too large a picture is refused beforehand."""

from pathlib import Path
from typing import Any

from jax.stages import Compiled


def needed(compiled: Compiled) -> int:
    """Bytes per device that a compiled function takes while it runs, as the compiler has planned; 0 if unknown."""
    plan = compiled.memory_analysis()
    if plan is None:
        return 0
    return plan.temp_size_in_bytes + plan.argument_size_in_bytes + plan.output_size_in_bytes


def available(device: Any) -> int | None:
    """Bytes that are free on one of `jax.devices()`; None where the platform does not say."""
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0) if "bytes_limit" in stats else None
    return available_on_host()


def available_on_host() -> int | None:
    """Bytes of main memory that this process can still have; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines)
    free = [int(fields["MemAvailable"].split()[0]) * 1024] if "MemAvailable" in fields else []
    return min([*free, *left_in_groups()], default=None)


def left_in_groups(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> list[int]:
    """Bytes that are left in each limited control group (version 2) of this process: a container's, a Slurm job's.

    Args:
        root: where the groups are mounted.
        membership: says which group this process is in, as `0::/PATH`.
    """
    try:
        group = next(line[4:] for line in membership.read_text().splitlines() if line.startswith("0::/"))
    except (OSError, StopIteration):
        return []
    own = root / group
    left = []
    for folder in (folder for folder in (own, *own.parents) if folder.is_relative_to(root)):
        try:
            fields = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            used = int((folder / "memory.current").read_text()) - int(fields.get("inactive_file", 0))
            left.append(int((folder / "memory.max").read_text()) - used)
        except (OSError, ValueError):  # no group, or "max": no limit
            continue
    return left


def spell(size: int) -> str:
    """A number of bytes in MB or GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
