"""The time that training steps take."""

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Time since the last restart, and how much of it went into waiting for data."""

    def __init__(self) -> None:
        self.restart()
        self.first = True

    def restart(self) -> None:
        self.begin, self.waited = time.perf_counter(), 0.0

    def elapsed(self) -> float:
        return time.perf_counter() - self.begin

    def steps(self, logged: int) -> int:
        """Steps that the elapsed time covers: the first one of a run was timed on its own."""
        counted = logged - 1 if self.first else logged
        self.first = False
        return counted

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.waited += time.perf_counter() - begin
