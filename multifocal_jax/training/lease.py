"""One training at a time in a workdir."""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, Self

import psutil
from etils import epath

from multifocal_jax.errors import UserError
from multifocal_jax.files import make_folder, write_text
from multifocal_jax.paths import as_path

FILE = "lease.json"
RENEWAL_SECONDS = 30
STALE_SECONDS = 120
_TURN_SECONDS = 1  # between checks of a lease whose holder may be dead


class WorkdirInUseError(UserError):
    """Another training uses the workdir. The message names its host and process."""


class Lease:
    """A file in the workdir that names this process, and is renewed while it runs.

    Raises:
        WorkdirInUseError: on entry, another process holds the workdir. One of which the system does not know for sure
            whether it runs, as on another host, has `STALE_SECONDS` to renew its lease.
        OutputError: on entry, the workdir cannot be written to.
    """

    def __init__(self, workdir: epath.PathLike, say: Callable[[str], object] | None = None) -> None:
        self._workdir, self._say = as_path(workdir), say
        self._mine = {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "started": psutil.Process().create_time(),
            "space": _process_space(),
            "id": uuid.uuid4().hex,
        }
        self._taken_by: dict[str, Any] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Self:
        make_folder(self._workdir)
        first, begin = read_lease(self._workdir), time.monotonic()
        holder = first
        while first and holder and (lives := self._lives(holder)) is not False:
            who = f"process {holder['process']} on {holder['host']}"
            if lives or holder["renewed"] != first["renewed"]:
                raise WorkdirInUseError(
                    f"{self._workdir} is in use: {who} trains there; end it first, or use another workdir"
                )
            if self._say:
                self._say(f"{self._workdir} was used by {who} a moment ago; checking whether it still runs")
                self._say = None
            if time.monotonic() - begin > STALE_SECONDS:
                break  # it has not been renewed for so long, whatever the clock of its host says
            time.sleep(_TURN_SECONDS)
            holder = read_lease(self._workdir)
        self._write()
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(Exception):  # a bucket out of reach raises errors of its own
            if (read_lease(self._workdir) or self._mine)["id"] == self._mine["id"]:
                (self._workdir / FILE).unlink(missing_ok=True)

    def check(self) -> None:
        """Raise `WorkdirInUseError` if another training has taken the workdir over, after a long pause of this one."""
        if self._taken_by:
            raise WorkdirInUseError(
                f"process {self._taken_by['process']} on {self._taken_by['host']} has taken {self._workdir} over: "
                f"it started at the same moment, or this one did not renew its {FILE} for {STALE_SECONDS} s"
            )

    def _renew(self) -> None:
        pause = min(_TURN_SECONDS, RENEWAL_SECONDS)  # at first, to notice another that started at the same moment
        while not self._ended.wait(pause):
            pause = RENEWAL_SECONDS
            with contextlib.suppress(Exception):  # a full disk, a bucket out of reach: it will be tried again
                holder = read_lease(self._workdir)
                if holder and holder["id"] != self._mine["id"]:
                    self._taken_by = holder
                    return
                self._write()

    def _write(self) -> None:
        write_text(self._workdir / FILE, json.dumps(self._mine | {"renewed": time.time()}) + "\n")

    def _lives(self, holder: dict[str, Any]) -> bool | None:
        """Whether the holder runs; None if only a renewal of its lease would tell.

        On this machine the system knows. But if the clock is set, it reports another start time of the same process.
        """
        if (holder["host"], holder["space"]) == (self._mine["host"], self._mine["space"]):
            try:
                if psutil.Process(holder["process"]).create_time() == holder["started"]:
                    return True
            except psutil.Error:
                return False
        return None if time.time() - holder["renewed"] < STALE_SECONDS else False


def read_lease(workdir: epath.PathLike) -> dict[str, Any] | None:
    """The lease of a workdir: "host", "process", "id", "renewed" and more; None if there is none."""
    try:
        lease = json.loads((as_path(workdir) / FILE).read_text())
        return lease if {"host", "process", "started", "space", "id", "renewed"} <= lease.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def _process_space() -> str:
    """The PID namespace: containers with the same host name have separate ones."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
