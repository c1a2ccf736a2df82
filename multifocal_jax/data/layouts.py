"""Matches files to pairs by name, in all common layouts of de-raining sets.

Pairs are never matched by sorted order, since one missing file would shift all that follow. Which side of a two-sided
picture is rainy is a property of the set and never guessed.
"""

import dataclasses
import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from multifocal_jax.data.errors import DataError, ImageError, NoPairsError, NoSplitError
from multifocal_jax.data.images import find_images, image_size, read_image
from multifocal_jax.data.published import PUBLISHED, Arrangement
from multifocal_jax.paths import as_path, subfolders

RAINY_FOLDERS = ("rain", "rainy", "input", "inputs", "rainy_image", "rainy_images", "rain_image")
CLEAN_FOLDERS = ("norain", "no_rain", "clean", "target", "targets", "gt", "ground_truth", "groundtruth")
# Folders of two-sided pictures, whose names give the order of the sides.
TWO_SIDED_FOLDERS: dict[str, Arrangement] = {"rainy_clean": "rainy_left", "clean_rainy": "clean_left"}
FOLDER_LAYOUT = (
    "a folder of rainy pictures (rain, rainy, input, rainy_image) beside one of clean pictures (norain, clean, target, "
    "gt, ground_truth) with matching names; rainy_clean or clean_rainy with both sides in one file, in that order; or "
    "a .txt list of `RAINY CLEAN` lines"
)

Half = Literal["whole", "left", "right"]


@dataclass(frozen=True)
class Picture:
    """A picture on disk: a whole file, or the left or right half of one."""

    path: Path
    half: Half = "whole"

    def load(self) -> np.ndarray:
        """uint8 (H, W, 3).

        Raises:
            ImageError: the file is unreadable, or cannot be halved.
        """
        return self.cut(read_image(self.path))

    def size(self) -> tuple[int, int]:
        """Height and width, from the file's header."""
        height, width = image_size(self.path)
        return (height, width) if self.half == "whole" else (height, self._middle(width))

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The pixels of the file that belong to this picture."""
        if self.half == "whole":
            return image
        middle = self._middle(image.shape[1])
        return image[:, :middle] if self.half == "left" else image[:, middle:]

    def _middle(self, width: int) -> int:
        if width % 2:
            raise ImageError(f"picture {self.path} is {width} pixels wide, so it is not two pictures side by side")
        return width // 2


@dataclass(frozen=True)
class Pair:
    """A rainy picture with its clean one; `name` is unique in its set and can be used as a file name."""

    name: str
    rainy: Picture
    clean: Picture

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Rainy and clean, uint8 (H, W, 3) each.

        Raises:
            ImageError: a file is unreadable, or the two sizes differ.
        """
        image = read_image(self.rainy.path)
        other = image if self.clean.path == self.rainy.path else read_image(self.clean.path)
        rainy, clean = self.rainy.cut(image), self.clean.cut(other)
        self._check_sizes(rainy.shape[:2], clean.shape[:2])
        return rainy, clean

    def size(self) -> tuple[int, int]:
        """Height and width of both sides, from the files' headers; errors as for `load`."""
        rainy, clean = self.rainy.size(), self.clean.size()
        self._check_sizes(rainy, clean)
        return clean

    def _check_sizes(self, rainy: tuple[int, ...], clean: tuple[int, ...]) -> None:
        if rainy != clean:
            raise ImageError(
                f"pair {self.name}: {self.rainy.path} is {rainy[1]}x{rainy[0]} but {self.clean.path} is "
                f"{clean[1]}x{clean[0]}; the two sides must be of one size"
            )


@dataclass(frozen=True)
class Layout:
    """Pairs sorted by name, and one line for every picture without a partner."""

    pairs: list[Pair]
    unpaired: list[str]
    folder: Path


def find_pairs(dataset: str, root: str | Path, split: str = "train") -> Layout:
    """Find the pairs of a published set or of your own folder.

    Args:
        dataset: a key of `PUBLISHED`, or "folder".
        root: the set's folder, the folder of one split, or a list file.
        split: "train" or "test"; only published sets have splits.

    Raises:
        DataError: there are no pairs, or the folder is ambiguous. The message names the folder searched, the expected
            layout and what to do.
    """
    root = as_path(root)
    if not root.exists():
        raise DataError(f"{dataset}: {root} does not exist; expected there: {_expected(dataset, root)}")
    if root.is_file():
        return _from_list(root)
    if dataset not in PUBLISHED:
        layout = _from_folder(root)
    else:
        arrangement = PUBLISHED[dataset].arrangement
        lists = _split_lists(root, split) if arrangement == "list" else []
        _check_single(lists, f"{dataset}: {root} has several lists for {split}")
        if lists:
            layout = _from_list(lists[0])
        else:
            folder = _split_folder(dataset, root, split)
            sided = arrangement in ("rainy_left", "clean_left")
            layout = _two_sided(folder, arrangement) if sided else _from_folder(folder)
    if not layout.pairs and not layout.unpaired:
        raise NoPairsError(f"{dataset}: no pairs under {layout.folder}; expected: {_expected(dataset, root)}")
    return layout


def complete_pairs(dataset: str, root: str | Path, split: str = "train") -> list[Pair]:
    """The pairs of `find_pairs`, which must be complete.

    Raises:
        DataError: as `find_pairs`, or pictures have no partner; the message lists them by name.
    """
    layout = find_pairs(dataset, root, split)
    if lonely := layout.unpaired:
        shown = "; ".join(lonely[:8]) + (f"; and {len(lonely) - 8} more" if len(lonely) > 8 else "")
        raise DataError(
            f"{dataset}: {len(lonely)} pictures under {layout.folder} have no partner: {shown}; add what is missing or "
            "remove them"
        )
    return layout.pairs


def _expected(dataset: str, root: Path) -> str:
    """The layout and, for a published set, how to get it."""
    if dataset not in PUBLISHED:
        return FOLDER_LAYOUT
    known = PUBLISHED[dataset]
    check = f"multifocal data check {root} --dataset {dataset}"
    return f"{known.layout}; unpack {known.archive} there, then run: {check}"


def _check_single(found: list[Path], problem: str) -> None:
    if len(found) > 1:
        raise DataError(f"{problem}: {', '.join(path.name for path in found)}; point root at one of them")


def _is_split(name: str, split: str) -> bool:
    """Whether a folder's name says that it is the split: train, testing, rain_data_train_Heavy, RainTrainH."""
    return re.search(rf"(?:^|[^a-z]){split}", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()) is not None


def _split_folder(dataset: str, root: Path, split: str) -> Path:
    """The split's folder at or up to two levels below root; root itself if it has no such folder."""
    other = "test" if split == "train" else "train"
    ignored = PUBLISHED[dataset].ignored
    children = [child for child in subfolders(root) if child.name not in ignored]
    grandchildren = [folder for child in children for folder in subfolders(child) if folder.name not in ignored]
    matches = [folder for folder in children if _is_split(folder.name, split)]
    _check_single(matches, f"{dataset}: {root} has several folders for {split}")
    if not matches:
        matches = [folder for folder in grandchildren if _is_split(folder.name, split)]
    if len(matches) == 1:
        return matches[0]
    own_name = root.resolve().name
    below = any(_is_split(folder.name, other) for folder in [*children, *grandchildren])
    if below or (_is_split(own_name, other) and not _is_split(own_name, split)):
        raise NoSplitError(f"{dataset}: no {split} split under {root}; expected: {_expected(dataset, root)}")
    return root


def _split_lists(root: Path, split: str) -> list[Path]:
    """Lists below root for the split; for training also those that name no split (SPA's real_world.txt)."""
    lists = sorted(path for path in root.iterdir() if path.suffix == ".txt" and "readme" not in path.name.lower())
    named = [path for path in lists if _is_split(path.stem, split)]
    if split == "train" and not named:
        return [path for path in lists if not _is_split(path.stem, "test")]
    return named


def _two_sided(folder: Path, arrangement: Arrangement) -> Layout:
    files = find_images(folder, recursive=True)
    rainy, clean = ("left", "right") if arrangement == "rainy_left" else ("right", "left")
    pairs = [Pair("", Picture(path, rainy), Picture(path, clean)) for path in files]
    return Layout(_named(pairs, folder), [], folder)


def _from_list(path: Path) -> Layout:
    pairs, unpaired = [], []

    @functools.cache  # one listing per folder instead of one query per file: lists run to 638,492 lines
    def names(folder: Path) -> set[str]:
        return {path.name for path in folder.iterdir()} if folder.is_dir() else set()

    def exists(file: Path) -> bool:
        return file.name in names(file.parent)

    def locate(column: str) -> Path:
        # Published lists begin paths with a slash and mean the list's folder.
        inside = path.parent / column.lstrip("/")
        return Path(column) if column.startswith("/") and not exists(inside) and exists(Path(column)) else inside

    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"list {path} cannot be read as text: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        columns = line.strip().split("\t") if "\t" in line.strip() else line.split()
        if len(columns) != 2:
            raise DataError(
                f"{path} line {number} has {len(columns)} columns; expected two, RAINY CLEAN, separated by a space "
                "(by a tab where paths contain spaces)"
            )
        rainy, clean = (locate(column.strip()) for column in columns)
        missing = [file for file in (rainy, clean) if not exists(file)]
        unpaired += [f"line {number}: {file} does not exist" for file in missing]
        if not missing:
            pairs.append(Pair("", Picture(rainy), Picture(clean)))
    return Layout(_named(pairs, path.parent), unpaired, path)


def _from_folder(root: Path) -> Layout:
    """Pairs of a folder of any layout whose names identify the sides."""
    if root.name.lower() in TWO_SIDED_FOLDERS:
        return _two_sided(root, TWO_SIDED_FOLDERS[root.name.lower()])
    folders = subfolders(root)
    rainy = [folder for folder in folders if folder.name.lower() in RAINY_FOLDERS]
    clean = [folder for folder in folders if folder.name.lower() in CLEAN_FOLDERS]
    sided = [folder for folder in folders if folder.name.lower() in TWO_SIDED_FOLDERS]
    if len(rainy) > 1 or len(clean) > 1 or (sided and (rainy or clean or len(sided) > 1)):
        names = ", ".join(folder.name for folder in [*rainy, *clean, *sided])
        raise DataError(
            f"{root} can be read in several ways: {names}; leave one rainy and one clean folder, or one folder of "
            "two-sided pictures"
        )
    if sided:
        return _two_sided(sided[0], TWO_SIDED_FOLDERS[sided[0].name.lower()])
    here = find_images(root)
    if rainy and (clean or here):
        partners = (find_images(clean[0], recursive=True), clean[0]) if clean else (here, root)
        return _match(find_images(rainy[0], recursive=True), rainy[0], *partners)
    rainy_here = [path for path in here if _clean_word(path.stem) != path.stem]
    if rainy_here:
        return _match(rainy_here, root, [path for path in here if path not in set(rainy_here)], root)
    lists = [path for path in root.glob("*.txt") if "readme" not in path.name.lower()]
    if len(lists) == 1 and not folders and not here:
        return _from_list(lists[0])
    return Layout([], [], root)


def _clean_word(stem: str) -> str:
    """`rain-001` → `norain-001`: the word for rainy replaced by the one for clean; unchanged without it."""
    return re.sub(r"(^|[-_. ])rain(?=$|[-_. \d])", r"\1norain", stem)


def clean_stems(rainy: str) -> Iterable[str]:
    """Possible stems of the clean partner of a rainy picture, the most likely first."""
    yield rainy
    plain = re.sub(r"x\d+$", "", rainy) if re.search(r"\dx\d+$", rainy) else rainy  # norain-17x2
    for stem in dict.fromkeys((plain, re.sub(r"_\d+$", "", plain))):  # 17_3, the third rain over picture 17
        if stem != rainy:
            yield stem
        yield f"{stem}gt"
        yield f"{stem}_gt"
        for word in ("norain", "clean", "gt"):
            for wet in ("rainy", "rain"):
                replaced = re.sub(rf"(^|[-_. ]){wet}(?=$|[-_. \d])", rf"\1{word}", stem)
                if replaced != stem:
                    yield replaced


def _match(rainy: list[Path], rainy_folder: Path, clean: list[Path], clean_folder: Path) -> Layout:
    """Match by name: within the same subfolder if both sides have it, otherwise over all subfolders."""
    by_place: dict[tuple[str, str], Path] = {}
    by_stem: dict[str, list[Path]] = {}
    for path in clean:
        place = (str(path.parent.relative_to(clean_folder)), path.stem)
        if place in by_place:
            raise DataError(f"{by_place[place]} and {path} differ in their suffix alone; keep one of them")
        by_place[place] = path
        by_stem.setdefault(path.stem, []).append(path)
    places = {parent for parent, _ in by_place}
    pairs, lonely, partnered = [], [], set()
    for path in rainy:
        parent = str(path.parent.relative_to(rainy_folder))
        for stem in clean_stems(path.stem):
            candidates = [by_place[parent, stem]] if (parent, stem) in by_place else by_stem.get(stem, [])
            if len(candidates) > 1:
                raise DataError(
                    f"{path} has several clean partners: {', '.join(map(str, candidates))}; use the same subfolders on "
                    "both sides"
                )
            if candidates and (parent not in places or (parent, stem) in by_place):
                pairs.append(Pair("", Picture(path), Picture(candidates[0])))
                partnered.add(candidates[0])
                break
        else:
            lonely.append(f"no clean partner for {path.relative_to(rainy_folder)} under {clean_folder}")
    suffix = _suffix_in_use(pairs)
    lonely += [
        f"no rainy partner for {path.relative_to(clean_folder)} under {rainy_folder}; expected {path.stem}{suffix}"
        for path in clean
        if path not in partnered
    ]
    common = next(folder for folder in (rainy_folder, *rainy_folder.parents) if clean_folder.is_relative_to(folder))
    return Layout(_named(pairs, rainy_folder), lonely, common)


def _suffix_in_use(pairs: list[Pair]) -> str:
    """What follows the clean stem in this set's rainy names, to name a missing file."""
    if not pairs:
        return ".png"
    rainy, clean = pairs[0].rainy.path, pairs[0].clean.path
    return (rainy.stem.removeprefix(clean.stem) if rainy.stem.startswith(clean.stem) else "") + rainy.suffix


def _named(pairs: list[Pair], folder: Path) -> list[Pair]:
    """Name pairs after their rainy files, sorted; with their folders where stems alone are not unique.

    Raises:
        DataError: two pairs still have the same name.
    """
    names = unique_names([pair.rainy.path for pair in pairs], folder)
    named = [dataclasses.replace(pair, name=name) for pair, name in zip(pairs, names, strict=True)]
    return sorted(named, key=lambda pair: pair.name)


def unique_names(paths: Sequence[Path], folder: Path) -> list[str]:
    """Stems, joined to the folders below `folder` where stems alone are not unique, and to suffixes at last."""
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    inside = [path.relative_to(folder) if path.is_relative_to(folder) else Path(*path.parts[1:]) for path in paths]
    names = ["-".join(path.with_suffix("").parts) for path in inside]
    if len(set(names)) == len(names):
        return names
    names = ["-".join(path.parts) for path in inside]
    twice = [name for name, times in Counter(names).items() if times > 1][:3]
    if twice:
        raise DataError(f"under {folder} several pairs are named {', '.join(twice)}; list or store each picture once")
    return names
