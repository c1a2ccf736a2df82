"""Differences between two versions of a network, block by block."""

from dataclasses import dataclass

import numpy as np

FLOAT64_TOLERANCE = 1e-10  # of every row, relative to the largest value
FLOAT32_TOLERANCE = 1e-5  # of the output


@dataclass(frozen=True)
class Difference:
    """The difference between two versions of a block."""

    name: str
    absolute: float  # the largest one; infinite if shapes differ or a value is not finite
    relative: float  # the same, divided by the block's largest absolute value
    note: str = ""  # the reason for an infinite difference, or where in the block it is largest


@dataclass(frozen=True)
class Comparison:
    """Differences of all blocks in the order of computation, with the tolerance of those that are `checked`."""

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

    def table(self) -> str:
        """Plain text, one line per block; `<<<` marks the first one over tolerance."""
        width = max(len(row.name) for row in self.rows)
        lines = [self.title, f"{'block':{width}}  largest abs  largest rel"]
        for row in self.rows:
            mark = f"  <<< first over {self.tolerance:.0e}" if row is self.first_over else ""
            note = f"  {row.note}" if row.note else ""
            lines.append(f"{row.name:{width}}  {row.absolute:11.2e}  {row.relative:11.2e}{mark}{note}")
        worst = max((row for row in self.rows if row.name in self.checked), key=lambda row: row.relative)
        where = "at the output" if all(name.startswith("output") for name in self.checked) else "in every row"
        lines.append(
            f"{'agree' if self.ok else 'DIFFER'}: largest relative difference {worst.relative:.2e} at {worst.name}, "
            f"tolerance {self.tolerance:.0e} {where}"
        )
        return "\n".join(lines)


def difference(name: str, ours: np.ndarray, theirs: np.ndarray, least: float = 0.0) -> Difference:
    """Compare one block; the scale is that of `theirs`, but at least `least`."""
    if ours.shape != theirs.shape:
        return Difference(name, np.inf, np.inf, f"shapes {ours.shape} and {theirs.shape}")
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return Difference(name, np.inf, np.inf, "values that are not finite")
    absolute = float(np.abs(ours.astype(np.float64) - theirs).max(initial=0))
    scale = max(float(np.abs(theirs).max(initial=0)), least, np.finfo(np.float64).tiny)
    return Difference(name, absolute, absolute / scale)
