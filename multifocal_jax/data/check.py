"""Finds faults in data sets: broken, unpaired, misaligned, swapped, duplicate pictures, and overlaps of two sets."""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from multifocal_jax.config import Dataset
from multifocal_jax.data.alignment import find_fault
from multifocal_jax.data.crops import in_threads
from multifocal_jax.data.errors import DataError, ImageError, NoPairsError, NoSplitError
from multifocal_jax.data.fingerprints import Fingerprints, same_scene, thumbnail
from multifocal_jax.data.images import find_images
from multifocal_jax.data.layouts import Pair, Picture, find_pairs, unique_names
from multifocal_jax.data.published import PUBLISHED
from multifocal_jax.paths import as_path


@dataclass(frozen=True)
class Fault:
    """One fault."""

    kind: str  # unreadable, unpaired, sizes, different, misaligned, swapped, duplicate or overlap
    name: str  # the picture or pair
    detail: str


@dataclass
class CheckedSet:
    """One split of a set, or a folder of photographs."""

    title: str
    folder: str
    kind: str  # "pairs" or "photographs"
    count: int
    published: int | None  # pairs that the published split has
    sizes: dict[str, int]  # how many pictures of each size, "WIDTHxHEIGHT"
    faults: list[Fault]
    names: list[str] = field(repr=False)  # of the backgrounds, in the order of the fingerprints
    fingerprints: Fingerprints = field(repr=False)


@dataclass
class Comparison:
    """Comparison of the backgrounds of two splits or sets."""

    title: str  # "rain800 train with rain100l train"
    overlaps: list[Fault]


@dataclass
class CheckReport:
    """The result for one or two sets."""

    sets: list[CheckedSet]
    comparisons: list[Comparison]

    @property
    def faults(self) -> list[Fault]:
        """All faults found."""
        found = [checked.faults for checked in self.sets] + [item.overlaps for item in self.comparisons]
        return list(itertools.chain(*found))

    def to_json(self) -> dict[str, Any]:
        """The report as plain values."""
        shown = ("title", "folder", "kind", "count", "published", "sizes")
        sets = [
            {name: getattr(checked, name) for name in shown} | {"faults": [asdict(item) for item in checked.faults]}
            for checked in self.sets
        ]
        return {"sets": sets, "comparisons": [asdict(item) for item in self.comparisons]}

    def text(self, limit: int = 20) -> str:
        """The report as text; shows at most `limit` faults of each kind."""
        lines = []
        for checked in self.sets:
            published = "" if checked.published in (None, checked.count) else f" (published: {checked.published:,})"
            lines.append(f"{checked.title}: {checked.count:,} {checked.kind}{published} under {checked.folder}")
            common = sorted(checked.sizes.items(), key=lambda item: -item[1])
            more = f", {len(common) - 4} other sizes" if len(common) > 4 else ""
            sizes = ", ".join(f"{count:,} of {size}" for size, count in common[:4]) + more
            lines.append(f"  sizes: {sizes or 'none, as nothing here can be used'}")
            lines += _spell_faults(checked.faults, limit)
        for comparison in self.comparisons:
            lines.append(f"backgrounds of {comparison.title}:")
            lines += _spell_faults(comparison.overlaps, limit)
        return "\n".join(lines)


def _spell_faults(faults: list[Fault], limit: int) -> list[str]:
    if not faults:
        return ["  no faults"]
    lines = []
    for kind in dict.fromkeys(fault.kind for fault in faults):
        of_kind = [fault for fault in faults if fault.kind == kind]
        lines.append(f"  {kind}: {len(of_kind):,}")
        lines += [f"    {fault.name}: {fault.detail}" for fault in of_kind[:limit]]
        lines += [f"    and {len(of_kind) - limit:,} more"] if len(of_kind) > limit else []
    return lines


def check(root: str | Path, dataset: str = "", against: str | Path = "", against_dataset: str = "") -> CheckReport:
    """Check a set, and compare its backgrounds with those of another.

    Args:
        root: folder or list file.
        dataset: a published set, "folder" or "clean"; if empty, recognised by the folder's name and layout.
        against: another set, of which only backgrounds and broken pictures are checked.
        against_dataset: likewise for `against`.

    Raises:
        DataError: there is nothing to check.
    """
    sets = _check_splits(as_path(root), dataset)
    pairs = list(itertools.combinations(sets, 2))
    if against:
        others = _check_splits(as_path(against), against_dataset)
        pairs += itertools.product(sets, others)
        sets = sets + others
    return CheckReport(sets, [_compare(one, other) for one, other in pairs])


def _compare(one: CheckedSet, other: CheckedSet) -> Comparison:
    alike = same_scene(one.fingerprints, other.fingerprints)
    overlaps = [Fault("overlap", one.names[here], f"the same scene as {other.names[there]}") for here, there in alike]
    return Comparison(f"{one.title} with {other.title}", overlaps)


def recognise(root: Path) -> Dataset:
    """Which kind of set a folder holds: a published one by its name, or "folder" or "clean" by its layout.

    Raises:
        DataError: the folder can be read in several ways.
    """
    for name in (root.resolve().name, root.resolve().parent.name):
        plain = re.sub(r"[^a-z0-9]", "", name.lower())
        for known in PUBLISHED:
            if plain in (known, f"{known}mdn", f"{known}data", f"{known}dataset"):
                return cast(Dataset, known)
    try:
        find_pairs("folder", root)
    except NoPairsError:
        return "clean"
    return "folder"


def _check_splits(root: Path, dataset: str) -> list[CheckedSet]:
    if not root.exists():
        raise DataError(f"{root} does not exist; name a folder of pictures or a list file")
    dataset = dataset or recognise(root)
    if dataset == "clean":
        files = find_images(root, recursive=True)
        if not files:
            raise DataError(f"no pictures under {root}")
        named = zip(unique_names(files, root), map(Picture, files), strict=True)
        pairs = [Pair(name, picture, picture) for name, picture in named]
        return [_check_pairs(root.resolve().name, root, pairs, kind="photographs")]
    if dataset not in PUBLISHED or root.is_file():  # a list names no split
        layout = find_pairs(dataset, root)
        return [_check_pairs(root.resolve().name, layout.folder, layout.pairs, layout.unpaired)]
    checked, errors = [], []
    for split, size in PUBLISHED[dataset].sizes.items():
        try:
            layout = find_pairs(dataset, root, split)
        except NoSplitError as error:
            errors.append(error)
            continue
        if checked and str(layout.folder) == checked[0].folder:
            continue  # one folder without splits
        checked.append(_check_pairs(f"{dataset} {split}", layout.folder, layout.pairs, layout.unpaired, size))
    if not checked:
        raise errors[0]
    return checked


Inspection = tuple[tuple[int, int] | None, np.ndarray | None, Fault | None]  # size, thumbnail, fault


def _inspect(pair: Pair) -> Inspection:
    try:
        rainy, clean = pair.load()
    except ImageError as error:
        kind = "sizes" if "must be of one size" in str(error) else "unreadable"
        return None, None, Fault(kind, pair.name, str(error))
    found = None if pair.rainy == pair.clean else find_fault(rainy, clean)
    return clean.shape[:2], thumbnail(clean), Fault(found[0], pair.name, found[1]) if found else None


def _check_pairs(
    title: str,
    folder: Path,
    pairs: list[Pair],
    unpaired: Sequence[str] = (),
    published: int | None = None,
    kind: str = "pairs",
) -> CheckedSet:
    """Check pairs, or photographs as pairs of a picture with itself."""
    inspections = in_threads(lambda number: _inspect(pairs[number]), len(pairs), title)
    sizes = Counter(f"{size[1]}x{size[0]}" for size, _, _ in inspections if size is not None)
    faults = [Fault("unpaired", title, line) for line in unpaired]
    faults += [fault for _, _, fault in inspections if fault is not None]
    backgrounds: dict[Path, tuple[str, np.ndarray]] = {}  # one clean picture under several rains is one of these
    for pair, (_, small, _) in zip(pairs, inspections, strict=True):
        if small is not None:
            backgrounds.setdefault(pair.clean.path, (pair.name, small))
    names = [name for name, _ in backgrounds.values()]
    fingerprints = Fingerprints.of([small for _, small in backgrounds.values()])
    for one, other in same_scene(fingerprints, fingerprints):
        if one < other:
            faults.append(Fault("duplicate", names[other], f"the same scene as {names[one]}"))
    return CheckedSet(title, str(folder), kind, len(pairs), published, dict(sizes), faults, names, fingerprints)
