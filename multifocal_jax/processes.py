"""Several processes as one program: joining them, small messages between them, and a line when one of them dies."""

import atexit
import json
import os
import re
import socket
import subprocess
import sys
from typing import Any, NoReturn

from multifocal_jax import sentinel
from multifocal_jax.errors import UserError

HEARTBEAT_SECONDS = 30  # after which a silent process counts as dead; JAX's own default is 100
_POLL_MS = 5000  # between looks at a message that is waited for, so that Ctrl-C is heard

# What the libraries that connect processes say when the other end is gone.
_LOST = re.compile(r"gloo|nccl|closed by peer|connection reset|socket|unavailable|coordination service", re.IGNORECASE)


_IN_USE = "process 0 cannot listen at {}; is the port in use? Take another one"


class ProcessesError(UserError):
    """The processes cannot be joined."""


class _Group:
    """This process's place in the program; alone until `join`."""

    index, count, messages = 0, 1, 0
    client: Any = None
    watch: "subprocess.Popen[str] | None" = None
    checkpoints: str | None = None


_group = _Group()


def join(
    coordinator: str | None = None, count: int | None = None, index: int | None = None, preemptible: bool = True
) -> None:
    """Become one program with the other processes; must precede any other use of JAX.

    When a process dies, all others end within `HEARTBEAT_SECONDS` and a few more, each with a line that says so.

    Args:
        coordinator: HOST:PORT of process 0; None where Slurm, Kubernetes or Cloud TPU tell all three.
        count: of processes.
        index: of this process.
        preemptible: SIGTERM is left to `multihost_utils.reached_preemption_sync_point`; otherwise it ends the process.

    Raises:
        ProcessesError: process 0 cannot listen.
    """
    import jax

    if coordinator and index == 0:
        _check_port(coordinator)
    jax.config.update("jax_enable_preemption_service", preemptible)
    try:
        jax.distributed.initialize(
            coordinator, count, index, local_device_ids=local_gpus(), heartbeat_timeout_seconds=HEARTBEAT_SECONDS
        )
    except jax.errors.JaxRuntimeError as error:
        if "start RPC server" not in str(error):
            raise
        raise ProcessesError(_IN_USE.format(coordinator or "the coordinator's address")) from None
    from jax._src import distributed  # its key-value store has no public name; Orbax uses it in the same way

    state = distributed.global_state
    _group.index, _group.count, _group.client = state.process_id, state.num_processes, state.client
    _group.watch = subprocess.Popen(
        [sys.executable, "-I", "-S", sentinel.__file__],
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,  # what is sent to the group of this process must not end it
    )
    _tell({"text": _story()})
    atexit.register(_goodbye)


def local_gpus() -> list[int] | None:
    """All GPUs of this machine for the only Slurm task on it; None leaves the choice to JAX.

    Under Slurm JAX takes one GPU for every process, whatever number of processes and GPUs a machine has.
    """
    tasks = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")
    if "JAX_LOCAL_DEVICE_IDS" in os.environ or not re.fullmatch(r"1(\(x\d+\))?", tasks):
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    gpus = len(visible.split(",")) if visible else int(os.environ.get("SLURM_GPUS_ON_NODE", "0"))
    return list(range(gpus)) or None


def index() -> int:
    """Number of this process, 0 for one that is alone."""
    return _group.index


def count() -> int:
    """How many processes the program has."""
    return _group.count


def _check_port(coordinator: str) -> None:
    """Refuse a port that is in use before gRPC tries it, which may crash the process."""
    port = int(coordinator.rpartition(":")[2])
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        socket.create_server(("", port), family=family, dualstack_ipv6=dual).close()
    except (OSError, OverflowError):  # the latter beyond 65535
        raise ProcessesError(_IN_USE.format(coordinator)) from None


def check_joined() -> None:
    """Refuse processes that JAX knows of and this module does not: each would take itself for the only one.

    Raises:
        ProcessesError: they were connected by other means than `join`.
    """
    import jax

    if jax.process_count() != _group.count:
        raise ProcessesError(
            f"JAX runs {jax.process_count()} processes that have not joined here; pass --distributed, or call "
            "multifocal_jax.processes.join() in the place of jax.distributed.initialize()"
        )


def restarts_from(checkpoints: str | os.PathLike[str]) -> None:
    """Name the folder of checkpoints that a restart goes on from, for the line when a process dies."""
    _group.checkpoints = os.fspath(checkpoints)
    _tell({"text": _story(), "checkpoints": _group.checkpoints})


def loss_of_process(error: BaseException) -> str | None:
    """A line for an error that means that another process is gone; None if it means something else."""
    if _group.count == 1 or not _LOST.search(str(error)):
        return None
    advice = ""
    if _group.checkpoints:
        advice = f"; the same command on all of them goes on from {sentinel.newest(_group.checkpoints)}"
    reason = " ".join(str(error).split())[:200]
    return f"process {_group.index} of {_group.count} lost another one, whose log says why ({reason}){advice}"


def abandon(status: int) -> NoReturn:
    """End this process at once after an error; an ordinary exit would wait for the others, who wait for this one."""
    _goodbye()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def broadcast(value: Any) -> Any:
    """Process 0's value, of JSON's types, in every process; all must call this in the same order."""
    if _group.count == 1:
        return value
    _group.messages += 1
    key = f"multifocal/broadcast/{_group.messages}"
    if _group.index == 0:
        _group.client.key_value_set(key, json.dumps(value))
        return value
    return json.loads(_wait_for(key))


class Mailbox:
    """Texts that every process sends to process 0; all must make it in the same order."""

    def __init__(self) -> None:
        _group.messages += 1
        self._folder = f"multifocal/mail/{_group.messages}/"
        self._sent = 0

    def send(self, text: str) -> None:
        """Send a text."""
        _group.client.key_value_set(f"{self._folder}{_group.index}-{self._sent}", text)
        self._sent += 1

    def receive(self) -> list[str]:
        """What arrived since the last call; in process 0."""
        if _group.count == 1:
            return []
        letters = _group.client.key_value_dir_get(self._folder)
        for name, _ in letters:
            _group.client.key_value_delete(name)
        return [text for _, text in letters]


def _wait_for(key: str) -> str:
    import jax

    while True:
        try:
            return _group.client.blocking_key_value_get(key, _POLL_MS)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise


def _story() -> str:
    place = f"{_group.index} of {_group.count}"
    return (
        f"a process died: this one, {place}, or one that it cannot go on without; the log of the first to end says why"
    )


def _tell(message: dict[str, str]) -> None:
    if _group.watch and _group.watch.stdin:
        try:
            print(json.dumps(message), file=_group.watch.stdin, flush=True)
        except OSError:
            _group.watch = None  # it is gone; the work goes on without


def _goodbye() -> None:
    _tell({})
    if _group.watch and _group.watch.stdin:
        _group.watch.stdin.close()
        _group.watch.wait()
        _group.watch = None
