"""How much memory a computation needs and how much is free, so that a picture that does not fit is refused first."""

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import jax
import psutil
from jax.stages import Compiled

# What a run on a CPU needs beyond XLA's plan: operands that convolutions pack, and what the threads' heaps do not
# return. The process grew by 47, 47, 40, 70 and 29 MB more than plans of 179, 485, 687, 1,288 and 4,906 MB with two
# threads. When convolutions did not work by strips it grew by 141 MB more than a plan of 879 MB with two threads, by
# 106, 265 and 314 MB more with 1, 8 and 32, and by 418 MB more than 1,315 with 8 virtual devices (`general-small`,
# 2026-11-28).
_BESIDE_PLAN, _BESIDE, _BESIDE_THREAD, _MOST_THREADS = 0.1, 80_000_000, 40_000_000, 16
_PATIENCE = (5, 0.1)  # further looks, seconds before each: XLA frees a run's memory a moment after its result is ready


def needed(compiled: Compiled, device: Any) -> int:
    """Bytes per device that a compiled function needs: the compiler's plan and, on a CPU, more; 0 if unknown."""
    plan = compiled.memory_analysis()
    if plan is None:
        return 0
    planned = plan.temp_size_in_bytes + plan.argument_size_in_bytes + plan.output_size_in_bytes
    return planned + (round(_BESIDE_PLAN * planned) + fixed(device) if device.platform == "cpu" else 0)


def exhausted(error: Exception) -> bool:
    """Whether JAX says by this error that a device's memory does not suffice."""
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def fixed(device: Any) -> int:
    """The part of `needed` in bytes that does not depend on the function."""
    if device.platform != "cpu":
        return 0
    threads = max(os.cpu_count() or 1, device.client.device_count())
    return _BESIDE + _BESIDE_THREAD * min(threads, _MOST_THREADS)


def available(device: Any) -> int | None:
    """Free bytes on one of `jax.devices()`; None if the platform does not report them."""
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0) if "bytes_limit" in stats else None
    return available_on_host()


def lack(device: Any, size: int) -> int | None:
    """Free bytes on a device if they are fewer than `size`; None if they suffice or are unknown."""
    looks, pause = _PATIENCE
    free = available(device)
    while free is not None and free < size and looks:
        time.sleep(pause)
        free, looks = available(device), looks - 1
    return free if free is not None and free < size else None


def available_on_host() -> int:
    """Bytes of main memory that this process can still use, within the limits of its control groups."""
    return max(0, min([psutil.virtual_memory().available, *left_in_groups()]))


def left_in_groups(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> list[int]:
    """Bytes left in each limited control group of this process, such as a container's or a Slurm job's.

    Args:
        root: where the groups are mounted: version 2 directly, version 1 in a folder `memory`.
        membership: names the group of this process, as `0::/PATH` in version 2 and `4:memory:/PATH` in version 1.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # no Linux
        return []
    left = []
    for _, controllers, group in (line.split(":", 2) for line in lines):
        if controllers == "":
            mount, names = root, ("memory.current", "memory.max", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file")
            mount = root / "memory"
        else:
            continue
        own = mount / group.lstrip("/")  # a container sees its own group at the mount, whatever its path is
        for folder in (folder for folder in (own, *own.parents) if folder.is_relative_to(mount)):
            with contextlib.suppress(OSError, ValueError):  # no group, or "max": no limit
                used, limit = (int((folder / name).read_text()) for name in names[:2])
                fields = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                left.append(limit - used + int(fields.get(names[2], 0)))
    return left


def spell(size: int) -> str:
    """A number of bytes in MB or GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
