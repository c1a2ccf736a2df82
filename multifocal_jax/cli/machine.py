"""What a command sets for its own process before JAX starts, so that a CPU computes faster."""

import contextlib
import os
import sys
from pathlib import Path

_LARGE_PAGES = "glibc.malloc.hugetlb=1"
# How long XLA lets a CPU's device wait for another before it reports that, and before it ends the process. By default
# that is 20 and 40 seconds, in which a process stopped by Ctrl-Z counts as well.
_WAITING_FLAGS = (
    "xla_cpu_collective_call_warn_stuck_timeout_seconds",
    "xla_cpu_collective_call_terminate_timeout_seconds",
)
_WEEK = 7 * 24 * 3600


def use_large_pages() -> None:
    """Start the program again with memory in pages of 2 MB, where Linux offers them to programs that ask.

    XLA allocates its memory anew in every run and step, and Linux clears it page by page when it is first touched
    (docs/performance.md). glibc asks for large pages if `GLIBC_TUNABLES` says so, which it reads as a program starts.
    If the user has set that variable, it stays.
    """
    try:
        offered = "[madvise]" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:  # another system, or none of these pages
        return
    if offered and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = _LARGE_PAGES
        os.execv(sys.executable, sys.orig_argv)


def share_cores(batch: int) -> None:
    """Let JAX see the cores of a CPU as devices, each of which trains on its share of a batch.

    Many of XLA's operations keep one core busy only (docs/performance.md). There are as many devices as cores, or the
    most that divide the batch. Other platforms are not affected. What `XLA_FLAGS` or `JAX_NUM_CPU_DEVICES` sets stays.

    Args:
        batch: crops that are computed at once.
    """
    import jax
    import psutil

    flags = os.environ.get("XLA_FLAGS", "")
    patience = [f"--{flag}={_WEEK}" for flag in _WAITING_FLAGS if flag not in flags]
    os.environ["XLA_FLAGS"] = " ".join([flags, *patience]).strip()
    if "xla_force_host_platform_device_count" in flags or "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min(allowed, psutil.cpu_count(logical=False) or allowed)
    with contextlib.suppress(RuntimeError):  # JAX has started, and its devices stay as they are
        jax.config.update("jax_num_cpu_devices", max(n for n in range(1, cores + 1) if batch % n == 0))
