"""Several processes as one program: how they connect, and what they exchange."""

import contextlib
import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any

from multifocal_jax.errors import UserError
from multifocal_jax.rendezvous import ProcessesError, meet

HEARTBEAT_SECONDS = 30  # after which a silent process counts as dead; JAX's default is 100
PATIENCE_SECONDS = 300  # for which processes wait for each other at the start
# What the communication libraries report when the other end is gone.
_LOST = re.compile(r"gloo|nccl|closed by peer|connection reset|socket|unavailable|coordination service", re.IGNORECASE)


class LostProcessError(RuntimeError):
    """Another process of this program is gone. The message says how to continue."""


class _Group:
    """This process's place in the program; alone until `join`."""

    index, count = 0, 1


_group = _Group()


def join(
    coordinator: str | None = None,
    count: int | None = None,
    index: int | None = None,
    preemptible: bool = True,
    patience: int = PATIENCE_SECONDS,
) -> None:
    """Become one program with the other processes; must precede any other use of JAX.

    When a process dies, JAX ends all others within `HEARTBEAT_SECONDS` and a few more, and says so.

    Args:
        coordinator: HOST:PORT of process 0; None if Slurm, Kubernetes or Cloud TPU provide all three values.
        count: number of processes.
        index: number of this process.
        preemptible: SIGTERM is left to `multihost_utils.reached_preemption_sync_point`; otherwise it ends the process.
        patience: seconds to wait for the others.

    Raises:
        ProcessesError: process 0 cannot listen, or another process does not connect.
        ValueError: no cluster provides what was left out.
    """
    import jax

    if coordinator is None:
        coordinator, count, index = _told_by_slurm()
    if coordinator is not None and count is not None and index is not None:
        meet(coordinator, count, index, patience)
    # what was given is not to be looked for, which takes a further package and rights that a pod may not have
    given = coordinator is not None and "KUBERNETES_SERVICE_HOST" in os.environ
    jax.config.update("jax_enable_preemption_service", preemptible)
    notice = threading.Timer(10, print, ["waiting for the other processes"], {"file": sys.stderr, "flush": True})
    notice.daemon = True
    if coordinator is None:  # JAX then finds the others itself, and waits in silence
        notice.start()
    jax.distributed.initialize(
        coordinator,
        count,
        index,
        local_device_ids=local_gpus(),
        cluster_detection_method="deactivate" if given else None,
        initialization_timeout=patience,
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
    )
    notice.cancel()
    _group.index, _group.count = jax.process_index(), jax.process_count()


def index() -> int:
    """Number of this process; 0 if it is the only one."""
    return _group.index


def count() -> int:
    """Number of processes of the program."""
    return _group.count


def local_gpus() -> list[int] | None:
    """All GPUs of this machine for the only Slurm task on it; None leaves the choice to JAX.

    Under Slurm JAX uses one GPU per process, regardless of how many processes and GPUs a machine has.
    """
    tasks = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")
    if "JAX_LOCAL_DEVICE_IDS" in os.environ or not re.fullmatch(r"1(\(x\d+\))?", tasks):
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    gpus = len(visible.split(",")) if visible else int(os.environ.get("SLURM_GPUS_ON_NODE", "0"))
    return list(range(gpus)) or None


def check_joined() -> None:
    """Refuse processes that JAX knows but this module does not: each would believe it is the only one.

    Raises:
        ProcessesError: they were connected by other means than `join`.
    """
    import jax

    if jax.process_count() != _group.count:
        raise ProcessesError(
            f"JAX runs {jax.process_count()} processes that have not joined here; pass --distributed, or call "
            "multifocal_jax.processes.join() instead of jax.distributed.initialize()"
        )


def gather(value: Any) -> list[Any]:
    """The values of all processes, of JSON's types, in the order of their numbers; all must call this alike."""
    if _group.count == 1:
        return [value]
    import numpy as np
    from jax.experimental.multihost_utils import process_allgather

    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = process_allgather(np.array(len(text), np.int32))
    padded = np.zeros(1 << int(lengths.max() - 1).bit_length(), np.uint8)  # few sizes, as each is compiled for
    padded[: len(text)] = text
    rows = process_allgather(padded)
    return [json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Make an error of one process in the block end all of them, each with its own line.

    Raises:
        ProcessesError: another process had an error.
    """
    problem = None
    try:
        yield
    except Exception as error:
        problem = error
    problems = gather(None if problem is None else str(problem) or type(problem).__name__)
    if problem is not None:
        raise problem
    for number, text in enumerate(problems):
        if text:
            raise ProcessesError(f"process {number} of {_group.count} cannot continue: {text}")


def loss_of_process(error: BaseException) -> str | None:
    """A line for an error that means that another process is gone; None if it means something else.

    Errors of users and files are their own, whatever words they contain.
    """
    if _group.count == 1 or isinstance(error, (UserError, OSError)) or not _LOST.search(str(error)):
        return None
    reason = " ".join(str(error).split())[:200]
    return f"process {_group.index} of {_group.count} lost another process, whose log says why ({reason})"


def _told_by_slurm() -> tuple[str, int, int] | tuple[None, None, None]:
    """The coordinator's address, the number of processes and that of this one, as JAX finds them under Slurm."""
    task = os.environ
    names = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID")
    if any(name not in task for name in names) or any(name.startswith("OMPI_") for name in task):
        return None, None, None
    job, nodes, count, index = (task[name] for name in names)
    first = re.match(r"([^,[]+)(?:\[([^],-]+))?", nodes)  # node3,node5 or node[001-004,007]
    if first is None:
        return None, None, None
    host = first[1] + (first[2] or "")
    port = task.get("JAX_COORDINATOR_PORT") or int(job) % 4096 + 61440
    return f"{host}:{port}", int(count), int(index)
