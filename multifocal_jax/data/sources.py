"""Pairs of rainy and clean pictures, one interface for files, prepared sets, photographs and synthesised rain."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from etils import epath

from multifocal_jax.config import SourceConfig
from multifocal_jax.data.errors import DataError
from multifocal_jax.data.images import find_images
from multifocal_jax.data.layouts import Pair, Picture, complete_pairs, unique_names
from multifocal_jax.paths import as_absolute, as_path, is_remote

# Seed of the rain over test pictures. A training run is unlikely to use it: its crop i would get the same rain as test
# picture i.
FROZEN_SEED = 0x7E57_5EED

IDENTITY = "identity"  # the style of `SourceConfig.rain` that adds no rain
Scene = tuple[object, ...]  # identifies a clean picture; equal wherever a config finds the same file


class PairSource(Protocol):
    """Pairs in the order of their names."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Unique in the source and fit for a file name."""
        ...

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Rainy and clean, uint8 (H, W, 3) each.

        Raises:
            ImageError: the pair cannot be read.
        """
        ...


class Checked(Protocol):
    """Pictures to score, whose faults can be found beforehand and whose scenes can be identified."""

    def check(self, index: int, whole: bool = False) -> tuple[int, int]:
        """Height and width, from the files' headers or, if `whole` is set, after decoding them.

        Raises:
            ImageError: a file cannot be read, or the two sides differ in size.
        """
        ...

    def alike(self, index: int) -> set[Scene]:
        """Scenes under which a training may have used the clean picture; empty if there is no clean picture."""
        ...


class ScoredPairs(PairSource, Checked, Protocol):
    """Pairs that an evaluation scores."""


class RainySource(Protocol):
    """Rainy pictures without ground truth, in the order of their names."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Unique in the source and fit for a file name."""
        ...

    def load(self, index: int) -> tuple[np.ndarray, None]:
        """Rainy, uint8 (H, W, 3), and None instead of its ground truth.

        Raises:
            ImageError: the picture cannot be read.
        """
        ...


class Photographs(Protocol):
    """Clean pictures in the order of their names, to which rain is added."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Unique in the source and fit for a file name."""
        ...

    def scene(self, index: int) -> Scene:
        """Identifies the clean picture."""
        ...

    def alike(self, index: int) -> set[Scene]:
        """All scenes known to show the same clean picture, under any rain."""
        ...

    def weight(self, index: int) -> int:
        """Size of the clean picture's file in bytes, by which a copy of a set is recognised."""
        ...

    def size(self, index: int) -> tuple[int, int]:
        """Height and width, read from the file's header."""
        ...

    def load_clean(self, index: int) -> np.ndarray:
        """uint8 (H, W, 3).

        Raises:
            ImageError: the picture cannot be read.
        """
        ...


class Pairs(ScoredPairs, Photographs, Protocol):
    """Pairs on disk, whose clean sides can be read separately."""


class PairFiles:
    """Pairs of picture files."""

    def __init__(self, pairs: Sequence[Pair]):
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def name(self, index: int) -> str:
        """Stem of the rainy file."""
        return self._pairs[index].name

    def scene(self, index: int) -> Scene:
        """Path of the clean file."""
        return (as_absolute(self._pairs[index].clean.path),)

    def alike(self, index: int) -> set[Scene]:
        """Path of the clean file, which all rains over it share."""
        return {self.scene(index)}

    def weight(self, index: int) -> int:
        """Bytes of the clean file."""
        return _bytes(self._pairs[index].clean.path)

    def check(self, index: int, whole: bool = False) -> tuple[int, int]:
        """Height and width of both sides."""
        return self.load(index)[1].shape[:2] if whole else self._pairs[index].size()

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of the clean side."""
        return self._pairs[index].clean.size()

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Rainy and clean, uint8 (H, W, 3) each."""
        return self._pairs[index].load()

    def load_clean(self, index: int) -> np.ndarray:
        """uint8 (H, W, 3)."""
        return self._pairs[index].clean.load()


class PhotographFiles:
    """Single picture files, most often clean."""

    def __init__(self, files: Sequence[Path], folder: Path):
        named = sorted(zip(unique_names(files, folder), files, strict=True))
        self._names = [name for name, _ in named]
        self._pictures = [Picture(path) for _, path in named]

    def __len__(self) -> int:
        return len(self._pictures)

    def name(self, index: int) -> str:
        """Stem of the file."""
        return self._names[index]

    def scene(self, index: int) -> Scene:
        """Path of the file."""
        return (as_absolute(self._pictures[index].path),)

    def alike(self, index: int) -> set[Scene]:
        """Path of the file."""
        return {self.scene(index)}

    def weight(self, index: int) -> int:
        """Bytes of the file."""
        return _bytes(self._pictures[index].path)

    def size(self, index: int) -> tuple[int, int]:
        """Height and width."""
        return self._pictures[index].size()

    def load_clean(self, index: int) -> np.ndarray:
        """uint8 (H, W, 3)."""
        return self._pictures[index].load()


class RainyFiles:
    """Rainy picture files without ground truth."""

    def __init__(self, photographs: PhotographFiles):
        self._photographs = photographs

    def __len__(self) -> int:
        return len(self._photographs)

    def name(self, index: int) -> str:
        """Stem of the file."""
        return self._photographs.name(index)

    def check(self, index: int, whole: bool = False) -> tuple[int, int]:
        """Height and width."""
        return _check_clean(self._photographs, index, whole)

    def alike(self, index: int) -> set[Scene]:
        """None: the clean picture is not known."""
        return set()

    def load(self, index: int) -> tuple[np.ndarray, None]:
        """Rainy, uint8 (H, W, 3), and None."""
        return self._photographs.load_clean(index), None


class FrozenRain:
    """Photographs with synthesised rain that is always the same: a function of seed and index.

    The clean side is the photograph, with the style "real" as its camera saw it.
    """

    def __init__(self, photographs: Photographs, style: str, seed: int = FROZEN_SEED):
        self._photographs = photographs
        self._style = style
        self._seed = seed

    def __len__(self) -> int:
        return len(self._photographs)

    def name(self, index: int) -> str:
        """Name of the photograph."""
        return self._photographs.name(index)

    def check(self, index: int, whole: bool = False) -> tuple[int, int]:
        """Height and width of the photograph."""
        return _check_clean(self._photographs, index, whole)

    def alike(self, index: int) -> set[Scene]:
        """Those of the photograph."""
        return self._photographs.alike(index)

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Rainy and clean, uint8 (H, W, 3) each."""
        from multifocal_jax.data.rain import rain_key, rain_over

        clean = self._photographs.load_clean(index)
        if self._style == IDENTITY:
            return clean.copy(), clean
        return rain_over(rain_key(self._seed, index), clean, self._style)


class Selection:
    """Some pairs of several sources, as one source."""

    def __init__(self, sources: Sequence[ScoredPairs], entries: Sequence[tuple[int, int]]):
        """`entries` are pairs of a source's number and an index in it."""
        self._sources = sources
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def name(self, index: int) -> str:
        """Name of the pair, prefixed with the number of its source if there are several."""
        source, entry = self._entries[index]
        name = self._sources[source].name(entry)
        return name if len(self._sources) == 1 else f"{source}-{name}"

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Rainy and clean, uint8 (H, W, 3) each."""
        source, entry = self._entries[index]
        return self._sources[source].load(entry)

    def check(self, index: int, whole: bool = False) -> tuple[int, int]:
        """Height and width."""
        source, entry = self._entries[index]
        return self._sources[source].check(entry, whole)

    def alike(self, index: int) -> set[Scene]:
        """Scenes of the pair in its source."""
        source, entry = self._entries[index]
        return self._sources[source].alike(entry)


def _check_clean(photographs: Photographs, index: int, whole: bool) -> tuple[int, int]:
    return photographs.load_clean(index).shape[:2] if whole else photographs.size(index)


def _bytes(path: Path) -> int:
    return epath.Path(path).stat().length


def open_photographs(source: SourceConfig, data_root: str = "") -> Pairs | PhotographFiles:
    """The pictures of a source as they are on disk, before any rain is synthesised.

    Raises:
        DataError: the source is missing or incomplete; the message says where it was searched and what to do.
    """
    root = place_of(source, data_root)
    if source.dataset == "demo":
        from multifocal_jax.data.demo import demo_photographs

        files = demo_photographs(source.split)
        return PhotographFiles(files, files[0].parent)
    if source.dataset == "clean":
        return _open_folder(source.dataset, root)
    if source.dataset == "rainy":
        raise DataError(
            f"rainy: the pictures in {root} have no ground truth; they can be evaluated "
            "(multifocal evaluate --photographs), but not trained on"
        )
    if source.reader == "tfds":
        from multifocal_jax.data.prepared import PreparedPairs

        return PreparedPairs(source.dataset, root, source.split)
    return PairFiles(complete_pairs(source.dataset, root, source.split))


def open_rainy(source: SourceConfig, data_root: str = "") -> RainyFiles:
    """The pictures of a source of dataset "rainy"; arguments and errors as for `open_source`."""
    return RainyFiles(_open_folder(source.dataset, place_of(source, data_root)))


def place_of(source: SourceConfig, data_root: str = "") -> Path:
    """The folder of a source: its root, relative to `DataConfig.root` unless it is absolute."""
    return as_path(source.root if is_remote(source.root) else os.path.join(data_root, source.root))


def _open_folder(dataset: str, root: Path) -> PhotographFiles:
    files = find_images(root, recursive=True)
    if not files:
        raise DataError(f"{dataset}: no pictures in {root}; expected there: photographs, in subfolders if you like")
    return PhotographFiles(files, root)


def with_frozen_rain(pictures: Pairs | PhotographFiles, source: SourceConfig) -> ScoredPairs:
    """Pairs to score: as they are on disk or, if the source synthesises rain, with rain that never changes."""
    if source.rain != "none":
        return FrozenRain(pictures, source.rain)
    assert not isinstance(pictures, PhotographFiles)  # SourceConfig refuses photographs without rain
    return pictures


def open_source(source: SourceConfig, data_root: str = "") -> ScoredPairs:
    """Open a source's pairs, to score or show them.

    Args:
        source: what to open; its root is relative to `data_root` unless it is absolute.
        data_root: `DataConfig.root`.

    Raises:
        DataError: the source is missing or incomplete; the message says where it was searched and what to do.
    """
    return with_frozen_rain(open_photographs(source, data_root), source)
