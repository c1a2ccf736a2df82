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
from multifocal_jax.data.prepared import PreparedPairs
from multifocal_jax.paths import as_absolute, as_path, is_remote

# Seed of the rain over test pictures. A training run is unlikely to use it: its crop i would get the same rain as test
# picture i.
FROZEN_SEED = 0x7E57_5EED

IDENTITY = "identity"  # the style of `SourceConfig.rain` that adds no rain
Scene = tuple[object, ...]  # identifies a clean picture; equal wherever a config finds the same file


class Named(Protocol):
    """Pictures in the order of their names."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Unique in the source and fit for a file name: the stem of the file, with folders where needed."""
        ...


class PairSource(Named, Protocol):
    """Pairs in the order of their names."""

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Rainy and clean, uint8 (H, W, 3) each.

        Raises:
            ImageError: the pair cannot be read.
        """
        ...


class RainySource(Named, Protocol):
    """Rainy pictures without ground truth, in the order of their names."""

    def load(self, index: int) -> tuple[np.ndarray, None]:
        """Rainy, uint8 (H, W, 3), and None instead of its ground truth.

        Raises:
            ImageError: the picture cannot be read.
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
        """All scenes known to show the same clean picture, under any rain; empty if there is no clean picture."""
        ...


class ScoredPairs(PairSource, Checked, Protocol):
    """Pairs that an evaluation scores."""


class _CleanFiles:
    """Clean pictures in the order of their names, to which rain may be added; see `Named` and `Checked`."""

    def __init__(self, names: Sequence[str], pictures: Sequence[Picture]):
        self._names, self._pictures = names, pictures

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        return self._names[index]

    def scene(self, index: int) -> Scene:
        """Identifies the clean picture."""
        return (as_absolute(self._pictures[index].path),)

    def alike(self, index: int) -> set[Scene]:
        return {self.scene(index)}  # all rains over a clean file share its path

    def weight(self, index: int) -> int:
        """Size of the clean picture's file in bytes, by which a copy of a set is recognised."""
        return epath.Path(self._pictures[index].path).stat().length

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of the clean picture, read from the file's header."""
        return self._pictures[index].size()

    def load_clean(self, index: int) -> np.ndarray:
        """uint8 (H, W, 3); raises `ImageError` if the picture cannot be read."""
        return self._pictures[index].load()


class PairFiles(_CleanFiles):
    """Pairs of picture files, named after the rainy ones."""

    def __init__(self, pairs: Sequence[Pair]):
        super().__init__([pair.name for pair in pairs], [pair.clean for pair in pairs])
        self._pairs = pairs

    def check(self, index: int, whole: bool = False) -> tuple[int, int]:
        return self.load(index)[1].shape[:2] if whole else self._pairs[index].size()

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self._pairs[index].load()


class PhotographFiles(_CleanFiles):
    """Single picture files, most often clean."""

    def __init__(self, files: Sequence[Path], folder: Path):
        named = sorted(zip(unique_names(files, folder), files, strict=True))
        super().__init__([name for name, _ in named], [Picture(path) for _, path in named])


Pairs = PairFiles | PreparedPairs  # on disk, whose clean sides can be read separately
Photographs = Pairs | PhotographFiles


class _OfPhotographs:
    """Pictures of `Photographs`, under their names."""

    def __init__(self, photographs: Photographs):
        self._photographs = photographs

    def __len__(self) -> int:
        return len(self._photographs)

    def name(self, index: int) -> str:
        return self._photographs.name(index)

    def check(self, index: int, whole: bool = False) -> tuple[int, int]:
        return self._photographs.load_clean(index).shape[:2] if whole else self._photographs.size(index)


class RainyFiles(_OfPhotographs):
    """Rainy picture files without ground truth."""

    def alike(self, index: int) -> set[Scene]:
        return set()  # the clean picture is not known

    def load(self, index: int) -> tuple[np.ndarray, None]:
        return self._photographs.load_clean(index), None


class FrozenRain(_OfPhotographs):
    """Photographs with synthesised rain that is always the same: a function of the index.

    The clean side is the photograph, with the style "real" as its camera saw it.
    """

    def __init__(self, photographs: Photographs, style: str):
        super().__init__(photographs)
        self._style = style

    def alike(self, index: int) -> set[Scene]:
        return self._photographs.alike(index)

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        from multifocal_jax.data.rain import rain_key, rain_over

        clean = self._photographs.load_clean(index)
        if self._style == IDENTITY:
            return clean.copy(), clean
        return rain_over(rain_key(FROZEN_SEED, index), clean, self._style)


class Selection:
    """Some pairs of several sources, as one source; names begin with the source's number if there are several."""

    def __init__(self, sources: Sequence[ScoredPairs], entries: Sequence[tuple[int, int]]):
        """`entries` are pairs of a source's number and an index in it."""
        self._sources, self._entries = sources, entries

    def __len__(self) -> int:
        return len(self._entries)

    def _at(self, index: int) -> tuple[ScoredPairs, int]:
        number, entry = self._entries[index]
        return self._sources[number], entry

    def name(self, index: int) -> str:
        source, entry = self._at(index)
        return source.name(entry) if len(self._sources) == 1 else f"{self._entries[index][0]}-{source.name(entry)}"

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        source, entry = self._at(index)
        return source.load(entry)

    def check(self, index: int, whole: bool = False) -> tuple[int, int]:
        source, entry = self._at(index)
        return source.check(entry, whole)

    def alike(self, index: int) -> set[Scene]:
        source, entry = self._at(index)
        return source.alike(entry)


def open_photographs(source: SourceConfig, data_root: str = "") -> Photographs:
    """The pictures of a source as they are on disk, before any rain is synthesised; see `open_source`."""
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


def with_frozen_rain(pictures: Photographs, source: SourceConfig) -> ScoredPairs:
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
