"""Differences between two versions of a network, block by block."""

from dataclasses import dataclass, replace

import numpy as np

FLOAT64_TOLERANCE = 1e-10  # of every row, relative to the largest value
FLOAT32_TOLERANCE = 1e-5  # of the output


@dataclass(frozen=True)
class Difference:
    """The difference between two versions of a block.

    Attributes:
        name: of the block.
        absolute: largest absolute difference; infinite if shapes differ or a value is not finite.
        relative: the same, divided by the block's largest absolute value.
        note: the reason for an infinite difference, or where in the block it is largest.
    """

    name: str
    absolute: float
    relative: float
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """Differences of all blocks in the order of computation, with their tolerance."""

    title: str
    rows: tuple[Difference, ...]
    tolerance: float
    checked: frozenset[str]

    @property
    def first_over(self) -> Difference | None:
        """The first block over tolerance."""
        return next((row for row in self.rows if row.name in self.checked and not row.relative < self.tolerance), None)

    @property
    def ok(self) -> bool:
        """Whether every block to which the tolerance applies is within it."""
        return self.first_over is None

    def only(self, *names: str) -> "Comparison":
        """The comparison of these blocks alone."""
        rows = tuple(row for row in self.rows if row.name in names)
        return replace(self, rows=rows, checked=self.checked & set(names))

    def table(self) -> str:
        """Plain text, one line per block; `<<<` marks the first one over tolerance."""
        width = max(len(row.name) for row in self.rows)
        lines = [self.title, f"{'block':{width}}  largest abs  largest rel"]
        for row in self.rows:
            mark = f"  <<< first over {self.tolerance:.0e}" if row is self.first_over else ""
            note = f"  {row.note}" if row.note else ""
            lines.append(f"{row.name:{width}}  {row.absolute:11.2e}  {row.relative:11.2e}{mark}{note}")
        worst = max((row for row in self.rows if row.name in self.checked), key=lambda row: row.relative)
        verdict = "agree" if self.ok else "DIFFER"
        where = "at the output" if all(name.startswith("output") for name in self.checked) else "in every row"
        lines.append(
            f"{verdict}: largest relative difference {worst.relative:.2e} at {worst.name}, tolerance "
            f"{self.tolerance:.0e} {where}"
        )
        return "\n".join(lines)


def difference(name: str, ours: np.ndarray, theirs: np.ndarray, least: float = 0.0) -> Difference:
    """Compare one block; the scale is that of `theirs`, but at least `least`."""
    if ours.shape != theirs.shape:
        return Difference(name, np.inf, np.inf, f"shapes {ours.shape} and {theirs.shape}")
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return Difference(name, np.inf, np.inf, "values that are not finite")
    if not ours.size:
        return Difference(name, 0.0, 0.0)
    absolute = float(np.abs(ours.astype(np.float64) - theirs).max())
    return Difference(name, absolute, absolute / max(float(np.abs(theirs).max()), least, np.finfo(np.float64).tiny))
