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
    """Bytes of main memory that are free; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in fields else None


def spell(size: int) -> str:
    """A number of bytes in MB or GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
