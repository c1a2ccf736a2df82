"""Writes pairs of names as a file for `--names`, combined into patterns where possible."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from multifocal_jax.interop.foreign.matching import Alignment


def names_file(alignment: Alignment, source: str) -> str:
    """A file for `--names`: certain entries as patterns where possible, ambiguous ones line by line."""
    certain = [(match.theirs, match.ours.flax) for match in alignment.matches if match.certain]
    unclear = [match for match in alignment.matches if not match.certain]
    lines = [f"# Names of {source} and ours."]
    lines += [f"{theirs} = {ours}" for theirs, ours in generalise(certain)]
    if unclear:
        lines += ["", "# Ambiguous: shapes and names leave these open; the order in the file was followed."]
        lines += [f"{match.theirs} = {match.ours.flax}  # ambiguous" for match in unclear]
    if alignment.spare:
        lines += ["", "# Of no use to this network: dropped.", *(f"{name} = -" for name in alignment.spare)]
    return "\n".join(lines) + "\n"


def generalise(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Combine pairs of names that differ only in numbers into patterns (see `renaming`); others stay unchanged."""
    families: dict[tuple[tuple[str, ...], tuple[str, ...]], list[tuple[list[int], list[int]]]] = defaultdict(list)
    for theirs, ours in pairs:
        a, b = re.split(r"(\d+)", theirs), re.split(r"(\d+)", ours)
        families[tuple(a[::2]), tuple(b[::2])].append(([int(n) for n in a[1::2]], [int(n) for n in b[1::2]]))
    found = []
    for (texts_a, texts_b), numbers in families.items():
        pattern = _pattern(texts_a, texts_b, numbers) if len(numbers) > 1 else None
        found += [pattern] if pattern else [(_join(texts_a, a), _join(texts_b, b)) for a, b in numbers]
    return found


def _pattern(
    texts_a: Sequence[str], texts_b: Sequence[str], numbers: Sequence[tuple[list[int], list[int]]]
) -> tuple[str, str] | None:
    """One pattern for a family of pairs; None if the numbers on one side do not follow from those on the other."""
    theirs: list[Any] = list(numbers[0][0])
    ours: list[Any] = list(numbers[0][1])
    letters = iter("nopqrstuvw")
    varying = [slot for slot in range(len(theirs)) if len({a[slot] for a, _ in numbers}) > 1]
    for target in range(len(ours)):
        if len({b[target] for _, b in numbers}) == 1:
            continue
        options = [slot for slot in varying if isinstance(theirs[slot], int)]
        for slot in options:
            offsets = Counter(a[slot] - b[target] for a, b in numbers)
            power = all(a[slot] == 2 ** b[target] for a, b in numbers)
            if len(offsets) == 1 or power:
                before = texts_b[target]
                letter = "m" if before.endswith("module_") else "l" if "l" not in str(ours) else next(letters)
                offset = next(iter(offsets))
                theirs[slot] = f"{{{letter}^2}}" if power and len(offsets) > 1 else f"{{{letter}{offset:+d}}}"
                theirs[slot] = theirs[slot].replace("+0}", "}")
                ours[target] = f"{{{letter}}}"
                break
        else:
            return None
    if any(isinstance(theirs[slot], int) for slot in varying):
        return None
    return _join(texts_a, theirs), _join(texts_b, ours)


def _join(texts: Sequence[str], numbers: Sequence[Any]) -> str:
    """Texts with numbers or placeholders between them."""
    return "".join(text + str(number) for text, number in zip(texts, [*numbers, ""], strict=True))
