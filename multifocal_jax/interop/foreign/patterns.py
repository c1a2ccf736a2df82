"""Writes pairs of names as a file for `names`, combined into patterns where possible."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from multifocal_jax.interop.foreign.matching import Alignment

_Family = Sequence[tuple[list[int], list[int]]]  # the numbers in names that differ only in these, theirs and ours


def names_file(alignment: Alignment, source: str, prefix: str = "") -> str:
    """A file for `names`: certain entries as patterns where possible, ambiguous ones line by line.

    Their names are written with `prefix`, where reading dropped one that belongs to them.
    """
    certain = [(prefix + match.theirs, match.ours.flax) for match in alignment.matches if match.certain]
    unclear = [match for match in alignment.matches if not match.certain]
    lines = [f"# Names of {source} and ours."]
    lines += [f"{theirs} = {ours}" for theirs, ours in generalise(certain)]
    if unclear:
        lines += ["", "# Ambiguous: shapes and names leave these open; the order in the file was followed."]
        lines += [f"{prefix}{match.theirs} = {match.ours.flax}  # ambiguous" for match in unclear]
    if alignment.spare:
        lines += ["", "# Of no use to this network: dropped.", *(f"{prefix}{name} = -" for name in alignment.spare)]
    return "\n".join(lines) + "\n"


def generalise(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Combine pairs of names that differ only in numbers into patterns (see `renaming`); others stay unchanged."""
    families: dict[Any, list[tuple[list[int], list[int]]]] = defaultdict(list)
    for pair in pairs:
        (texts_a, a), (texts_b, b) = ((part[::2], [int(n) for n in part[1::2]]) for part in map(_split, pair))
        families[tuple(texts_a), tuple(texts_b)].append((a, b))
    found = []
    for (texts_a, texts_b), numbers in families.items():
        pattern = _pattern(texts_b, numbers) if len(numbers) > 1 else None
        found += [(_join(texts_a, a), _join(texts_b, b)) for a, b in ([pattern] if pattern else numbers)]
    return found


def _split(name: str) -> list[str]:
    return re.split(r"(\d+)", name)


def _pattern(texts: Sequence[str], numbers: _Family) -> tuple[list[Any], list[Any]] | None:
    """Placeholders for a family's numbers, theirs and ours; None if one side's do not follow from the other's."""
    theirs, ours = (list[Any](first) for first in numbers[0])
    letters = iter("nopqrstuvw")
    varying = {slot for slot in range(len(theirs)) if len({a[slot] for a, _ in numbers}) > 1}
    for target in (slot for slot in range(len(ours)) if len({b[slot] for _, b in numbers}) > 1):
        for slot in sorted(varying):
            offsets = {a[slot] - b[target] for a, b in numbers}
            if len(offsets) == 1 or all(a[slot] == 2 ** b[target] for a, b in numbers):
                letter = "m" if texts[target].endswith("module_") else "l" if "l" not in str(ours) else next(letters)
                change = f"{offsets.pop():+d}" if len(offsets) == 1 else "^2"
                theirs[slot] = f"{{{letter}{change}}}".replace("+0}", "}")
                ours[target] = f"{{{letter}}}"
                varying.remove(slot)
                break
        else:
            return None
    return None if varying else (theirs, ours)


def _join(texts: Sequence[str], numbers: Sequence[Any]) -> str:
    """Texts with numbers or placeholders between them."""
    return "".join(text + str(number) for text, number in zip(texts, [*numbers, ""], strict=True))
