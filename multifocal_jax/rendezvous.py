"""Lets the processes of one program find each other before JAX connects them.

JAX waits for the others in silence, and aborts the process from C++ when the time is up. Here every process first
reports to process 0 over plain TCP, at the address of JAX's coordinator, and is told when all are present.
"""

import contextlib
import re
import selectors
import socket
import sys
import time
from collections.abc import Iterable

from multifocal_jax.errors import UserError

_SILENT_SECONDS = 10  # until a line says who is missing; the interval doubles after each line
_TURN_SECONDS = 0.5  # between checks of the clock
_HELLO_SECONDS = 5  # in which a newcomer must identify itself
_GO, _NO = b"go\n", b"no: "


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
        _go_to(clock, index)


class _Patience:
    def __init__(self, place: str, count: int, seconds: float) -> None:
        self.place, self.count, self.seconds = place, count, seconds
        self.begin, self.due = time.monotonic(), _SILENT_SECONDS

    def line(self, missing: list[int]) -> str | None:
        """What to say now, if anything; raises when the time is up."""
        waited = time.monotonic() - self.begin
        if waited >= self.seconds:
            who = f"process {missing[0]}" if len(missing) == 1 else f"processes {', '.join(map(str, missing))}"
            raise ProcessesError(
                f"{who} of {self.count} did not come to {self.place} within {self.seconds:g} s; start all of them with "
                "the same address and count, or wait longer with --wait SECONDS"
            )
        if waited < self.due:
            return None
        self.due *= 2
        return f"waiting for {len(missing)} of {self.count} processes at {self.place}"


def _receive(clock: _Patience) -> None:
    """Process 0's part."""
    here: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack, _listen(clock.place) as server:
        events = stack.enter_context(selectors.DefaultSelector())
        events.register(server, selectors.EVENT_READ)
        while missing := [number for number in range(1, clock.count) if number not in here]:
            try:
                line = clock.line(missing)
            except ProcessesError as error:
                _tell(here.values(), _NO + str(error).encode())
                raise
            if line:
                print(line, file=sys.stderr, flush=True)
                _tell(here.values(), f"{line}\n".encode())
            for event, _ in events.select(_TURN_SECONDS):
                if event.fileobj is server:
                    newcomer = server.accept()[0]
                    number = _admit(newcomer, clock, here)
                    if number is None:
                        newcomer.close()
                    else:
                        here[number] = stack.enter_context(newcomer)
                        events.register(newcomer, selectors.EVENT_READ, number)
                else:  # one that has said who it is says nothing more: it is gone
                    events.unregister(event.fileobj)
                    del here[event.data]
        _tell(here.values(), _GO)
        for other in here.values():
            with contextlib.suppress(OSError):
                other.recv(1)  # it closes first, as otherwise the port would stay in use for a minute


def _tell(others: Iterable[socket.socket], text: bytes) -> None:
    for other in others:
        with contextlib.suppress(OSError):  # one that has gone meanwhile is missed later
            other.sendall(text)


def _admit(newcomer: socket.socket, clock: _Patience, here: dict[int, socket.socket]) -> int | None:
    """Number of the process that has connected; None for one that is none of ours."""
    newcomer.settimeout(_HELLO_SECONDS)
    with contextlib.suppress(OSError):
        hello = re.fullmatch(rb"process (\d+) of (\d+)\n", newcomer.recv(100))
        if hello is None:
            return None
        number, count = int(hello[1]), int(hello[2])
        if count == clock.count and 0 < number < count and number not in here:
            return number
        refusal = f"process {number} of {count} is not wanted at {clock.place}: {clock.count} processes meet there, "
        refusal += f"of which {', '.join(map(str, [0, *sorted(here)]))} came before; see --process-count, --process-id"
        newcomer.sendall(_NO + refusal.encode())
    return None


def _go_to(clock: _Patience, index: int) -> None:
    """The part of the others."""
    host, _, port = clock.place.rpartition(":")
    while True:
        if line := clock.line([0]):
            print(line, file=sys.stderr, flush=True)
        address = host.strip("[]"), int(port)
        with (
            contextlib.suppress(OSError),  # process 0 is not there yet, or has gone again
            socket.create_connection(address, timeout=_HELLO_SECONDS) as connection,
        ):
            connection.sendall(f"process {index} of {clock.count}\n".encode())
            if _hears_go(connection, clock):
                return
        time.sleep(_TURN_SECONDS)


def _hears_go(connection: socket.socket, clock: _Patience) -> bool:
    """Wait for process 0's word, and pass on what it says meanwhile; False if it has gone."""
    connection.settimeout(clock.seconds)
    while text := connection.recv(1000):
        if text.startswith(_NO):
            raise ProcessesError(text.removeprefix(_NO).decode())
        if text.endswith(_GO):
            return True
        if not text.startswith(b"waiting "):  # another program listens there
            return False
        print(text.decode().rstrip("\n"), file=sys.stderr, flush=True)
    return False


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
