"""Lets the processes of one program find each other before JAX connects them.

JAX waits for the others in silence, and aborts the process from C++ when the time is up. Here every process first
reports to process 0 over plain TCP, at the address of JAX's coordinator, again and again until all are present.
"""

import contextlib
import re
import socket
import sys
import time
import uuid
from collections.abc import Container

from multifocal_jax.errors import UserError

_SILENT_SECONDS = 10  # until a line says who is missing; the interval doubles after each line
_TURN_SECONDS = 0.5  # between reports of few processes
_LOST_TURNS = 4  # after so many without a report a process is gone
_HELLO_SECONDS = 5  # in which a newcomer must identify itself
_GO, _NO, _MISSING = "go", "no: ", "missing "


class ProcessesError(UserError):
    """Processes cannot become one program, or one of them cannot continue."""


def meet(coordinator: str, count: int, index: int, patience: float) -> None:
    """Return when all processes are present; after ten seconds, lines on stderr say who is missing.

    Args:
        coordinator: HOST:PORT of process 0.
        count: number of processes.
        index: number of this process.
        patience: seconds to wait.

    Raises:
        ProcessesError: process 0 cannot listen, a process does not connect in time, or two have the same number.
    """
    clock = _Patience(coordinator, count, patience)
    if index == 0:
        _receive(clock)
    else:
        _report(clock, index)


class _Patience:
    def __init__(self, place: str, count: int, seconds: float) -> None:
        self.place, self.count, self.seconds = place, count, seconds
        self.begin, self.due = time.monotonic(), _SILENT_SECONDS
        self.turn = _TURN_SECONDS * (1 + count / 100)  # process 0 answers fewer than 200 reports a second

    def spend(self, missing: list[int]) -> None:
        """Say now and then how many are missing; raise when the time is up."""
        waited = time.monotonic() - self.begin
        if waited >= self.seconds:
            who = f"process {missing[0]}" if len(missing) == 1 else f"processes {', '.join(map(str, missing))}"
            raise ProcessesError(
                f"{who} of {self.count} did not come to {self.place} within {self.seconds:g} s; start all of them with "
                "the same address and count, or wait longer"
            )
        if waited >= self.due:
            self.due *= 2
            sys.stderr.write(f"waiting for {len(missing)} of {self.count} processes at {self.place}\n")


def _receive(clock: _Patience) -> None:
    """Process 0's part: answer every report, until all have heard that all are present."""
    reports: dict[int, tuple[str, float]] = {}  # by process: its name for itself, and when it last reported
    told: set[int] = set()
    with _listen(clock.place) as server:
        server.settimeout(_TURN_SECONDS)
        while len(told) < clock.count - 1:
            lost = time.monotonic() - _LOST_TURNS * clock.turn
            reports = {number: report for number, report in reports.items() if number in told or report[1] > lost}
            if missing := _missing(clock, reports):
                clock.spend(missing)
            with contextlib.suppress(OSError):  # of nobody who reports, and of one who is gone
                connection, _ = server.accept()
                with connection:
                    connection.settimeout(_HELLO_SECONDS)
                    text = connection.recv(100).decode("ascii", "replace")
                    if hello := re.fullmatch(r"process (\d+) of (\d+) (\w+)\n", text):  # and not a stranger
                        answer = _answer(clock, reports, int(hello[1]), int(hello[2]), hello[3])
                        connection.sendall(f"{answer}\n".encode())
                        told |= {int(hello[1])} if answer == _GO else set()
                        connection.recv(1)  # it closes first, as otherwise the port would stay in use for a minute


def _missing(clock: _Patience, reports: Container[int]) -> list[int]:
    return [number for number in range(1, clock.count) if number not in reports]


def _answer(clock: _Patience, reports: dict[int, tuple[str, float]], number: int, count: int, name: str) -> str:
    """What a process is told that reports; `reports` takes it in if it is wanted."""
    taken = number in reports and reports[number][0] != name
    if count != clock.count or not 0 < number < count or taken:
        return (
            f"{_NO}process {number} of {count} is not wanted at {clock.place}: {clock.count} processes meet there, of "
            f"which {', '.join(map(str, [0, *sorted(reports)]))} came before; see its count and number"
        )
    reports[number] = name, time.monotonic()
    missing = _missing(clock, reports)
    return _MISSING + ",".join(map(str, missing)) if missing else _GO


def _report(clock: _Patience, index: int) -> None:
    """The part of the others."""
    host, _, port = clock.place.rpartition(":")
    name, missing = uuid.uuid4().hex, [0]
    while True:
        clock.spend(missing)
        answer = ""
        with (
            contextlib.suppress(OSError),  # process 0 is not there yet, or has gone again
            socket.create_connection((host.strip("[]"), int(port)), timeout=_HELLO_SECONDS) as connection,
        ):
            connection.sendall(f"process {index} of {clock.count} {name}\n".encode())
            answer = connection.makefile(errors="replace").readline(10_000).rstrip("\n")
        if answer == _GO:
            return
        if answer.startswith(_NO):
            raise ProcessesError(answer.removeprefix(_NO))
        if re.fullmatch(_MISSING + r"\d+(,\d+)*", answer):  # and not what another program says
            missing = [int(number) for number in answer.removeprefix(_MISSING).split(",")]
        time.sleep(clock.turn)


def _listen(coordinator: str) -> socket.socket:
    """A port in use is found here: gRPC, which JAX opens it with afterwards, may crash the process over it."""
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        return socket.create_server(("", int(coordinator.rpartition(":")[2])), family=family, dualstack_ipv6=dual)
    except (OSError, OverflowError):  # the latter beyond 65535
        raise ProcessesError(
            f"process 0 cannot listen at {coordinator}; is the port in use? Take another one"
        ) from None
