"""Alternates between the sides of a row and summarises their times."""

import contextlib
import math
import statistics
from dataclasses import dataclass, field
from typing import Any

from benchmarks.processes import SideError, SideProcess
from benchmarks.work import SideConfig, Work


@dataclass
class Times:
    """The measurements of one side.

    Attributes:
        side: its name.
        seconds: per run, one figure a round.
        first_extra: seconds by which the first run was slower than a warm one: compilation, mostly.
        peak_memory: bytes.
        facts: everything else that the side reports.
        failed: why there are no times, empty if there are.
    """

    side: str
    seconds: list[float] = field(default_factory=list)
    first_extra: float = math.nan
    peak_memory: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    failed: str = ""

    @property
    def median(self) -> float:
        """Seconds per run; not a number without any."""
        return statistics.median(self.seconds) if self.seconds else math.nan

    @property
    def quartiles(self) -> tuple[float, float]:
        """Lower and upper quartile of the seconds per run."""
        if len(self.seconds) < 2:
            return self.median, self.median
        lower, _, upper = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return lower, upper


def time_together(work: Work, sides: list[SideConfig], rounds: int, sample: float = 0) -> list[Times]:
    """All sides are set up and warm, then each runs for so many seconds, at least once, a round: A B C, A B C, …"""
    all_times = [Times(side.name) for side in sides]
    with contextlib.ExitStack() as stack:
        running: list[tuple[SideProcess, Times, int]] = []
        for side, times in zip(sides, all_times, strict=True):
            with _noting(times):
                process = stack.enter_context(SideProcess(work, side))
                running.append((process, times, _warm_up(process, times, sample)))
        for _ in range(rounds):
            for process, times, count in running:
                with _noting(times):
                    if not times.failed:
                        times.seconds.append(process.ask(count)["seconds"])
        for process, times, _ in running:
            with _noting(times):
                if not times.failed:
                    _report(process, times)
    return all_times


def time_alone(work: Work, sides: list[SideConfig], rounds: int, sample: float = 0) -> list[Times]:
    """Run one side after the other, for tasks that do not fit into memory twice."""
    return [times for side in sides for times in time_together(work, [side], rounds, sample)]


def _warm_up(process: SideProcess, times: Times, sample: float) -> int:
    """Two runs; returns how many make a sample."""
    process.answer()
    first = process.ask(1)["seconds"]
    warm = process.ask(1)["seconds"]
    times.first_extra = max(first - warm, 0.0)
    return max(1, math.ceil(sample / warm))


def _report(process: SideProcess, times: Times) -> None:
    times.facts = process.ask(0)
    times.peak_memory = times.facts.pop("peak_memory")


@contextlib.contextmanager
def _noting(times: Times) -> Any:
    """A side that fails does not take the others along."""
    try:
        yield
    except SideError as error:
        times.failed = str(error)
