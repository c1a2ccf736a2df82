"""Results as a Markdown table and as JSON."""

import math
from dataclasses import dataclass, field
from typing import Any

from benchmarks.rows import Row
from benchmarks.timing import Times

COLUMNS = ("row", "side", "median", "quartiles", "rate", "of the limit", "ours is", "peak memory", "compile", "target")
HEADER = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


@dataclass
class Result:
    """A row measured, or why not.

    Attributes:
        row: what was asked.
        sides: this project first; empty if the row was not measured.
        reason: why it was not, or what failed.
        limit: seconds that the hardware needs at least, not a number if unknown.
    """

    row: Row
    sides: list[Times] = field(default_factory=list)
    reason: str = ""
    limit: float = math.nan

    @property
    def failed(self) -> bool:
        """Whether something that should have run did not."""
        return any(times.failed for times in self.sides)

    @property
    def twin(self) -> Times | None:
        """The fastest of PyTorch's sides."""
        others = [times for times in self.sides if times.side.startswith("PyTorch") and times.seconds]
        return min(others, key=lambda times: times.median) if others else None

    def to_json(self) -> dict[str, Any]:
        sides = [vars(times) | {"median": times.median, "quartiles": times.quartiles} for times in self.sides]
        return {
            "row": self.row.name,
            "title": self.row.title,
            "work": self.row.work.to_json(),
            "target": self.row.target,
            "limit_seconds": self.limit,
            "reason": self.reason,
            "sides": sides,
        }


def limit_of(times: Times, rates: dict[str, float]) -> float:
    """The larger of arithmetic and traffic, each at the rate measured."""
    if not {"flops", "bytes"} <= times.facts.keys() or not rates:
        return math.nan
    return max(times.facts["flops"] / rates["flops_per_second"], times.facts["bytes"] / rates["bytes_per_second"])


def lines(result: Result) -> list[str]:
    if not result.sides:
        return [_line(result.row.title, "", f"not measured: {result.reason}", *[""] * 6, result.row.target)]
    return [_side(result, index, times) for index, times in enumerate(result.sides)]


def notes(result: Result) -> list[str]:
    found = []
    for times in result.sides:
        facts = {name: value for name, value in times.facts.items() if name not in ("flops", "bytes")}
        if facts:
            listed = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in facts.items())
            found.append(f"{result.row.title}, {times.side}: {listed}")
    return found


def _side(result: Result, index: int, times: Times) -> str:
    row, first = result.row, result.sides[0]
    title, target = (row.title, row.target) if index == 0 else ("", "")
    if times.failed:
        return _line(title, times.side, f"failed: {times.failed}", *[""] * 6, target)
    if not times.seconds:
        return _line(title, times.side, *[""] * 7, target)
    ratio = times.median / first.median
    factor = f"{ratio:.2f}× faster" if ratio >= 1 else f"{1 / ratio:.2f}× slower"
    if not index or row.kind == "start":
        factor = ""
    elif times is result.twin:
        factor = f"**{factor}**"
    return _line(
        title,
        times.side,
        seconds(times.median),
        f"{seconds(times.quartiles[0])} to {seconds(times.quartiles[1])}",
        f"{row.per_run / times.median:,.3g} {row.unit}" if row.unit else "",
        f"{result.limit / times.median:.0%} of {seconds(result.limit)}" if not math.isnan(result.limit) else "",
        factor,
        f"{times.peak_memory / 1e9:.2f} GB" if times.peak_memory else "",
        f"{times.first_extra:.1f} s" if times.first_extra >= 0.5 else "",
        target,
    )


def _line(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def describe_rates(rates: dict[str, float]) -> str:
    return (
        f"matrix products {rates['flops_per_second'] / 1e9:,.0f} GFLOP/s, "
        f"copies {rates['bytes_per_second'] / 1e9:,.1f} GB/s"
    )
