"""Pairs of rainy and clean pictures, one interface for files, prepared sets, photographs and synthesised rain."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from multifocal_jax.config import SourceConfig
from multifocal_jax.data.errors import DataError
from multifocal_jax.data.images import find_images
from multifocal_jax.data.layouts import Pair, Picture, complete_pairs, unique_names
from multifocal_jax.paths import as_path, is_remote

# Of the rain over pictures that are scored. No seed that a training run is likely to have, as the run's crop i would be
# under the very rain of test picture i.
FROZEN_SEED = 0x7E57_5EED

IDENTITY = "identity"  # the style of `SourceConfig.rain` that lays nothing over a clean picture


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


class RainySource(Protocol):
    """Rainy pictures without ground truth, in the order of their names."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Unique in the source and fit for a file name."""
        ...

    def load(self, index: int) -> tuple[np.ndarray, None]:
        """Rainy, uint8 (H, W, 3), and None in the place of its ground truth.

        Raises:
            ImageError: the picture cannot be read.
        """
        ...


class Photographs(Protocol):
    """Clean pictures in the order of their names, to synthesise rain over."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Unique in the source and fit for a file name."""
        ...

    def background(self, index: int) -> str:
        """Identifies the clean picture; neighbours that share it are one scene under several rains."""
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


class Pairs(PairSource, Photographs, Protocol):
    """Pairs on disk, whose clean sides can be read alone."""


class PairFiles:
    """Pairs of picture files."""

    def __init__(self, pairs: Sequence[Pair]):
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def name(self, index: int) -> str:
        """Stem of the rainy file."""
        return self._pairs[index].name

    def background(self, index: int) -> str:
        """Path of the clean file."""
        return str(self._pairs[index].clean.path)

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

    def background(self, index: int) -> str:
        """Path of the file."""
        return str(self._pictures[index].path)

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

    def load(self, index: int) -> tuple[np.ndarray, None]:
        """Rainy, uint8 (H, W, 3), and None."""
        return self._photographs.load_clean(index), None


class FrozenRain:
    """Photographs under synthesised rain that is the same at every reading: a function of seed and index.

    The clean side is the photograph, or what the camera of the style "real" made of it.
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

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Rainy and clean, uint8 (H, W, 3) each."""
        from multifocal_jax.data.rain import rain_key, rain_over

        clean = self._photographs.load_clean(index)
        if self._style == IDENTITY:
            return clean.copy(), clean
        return rain_over(rain_key(self._seed, index), clean, self._style)


class Selection:
    """Some pairs of several sources, as one source."""

    def __init__(self, sources: Sequence[PairSource], entries: Sequence[tuple[int, int]]):
        """`entries` are pairs of a source's number and an index in it."""
        self._sources = sources
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def name(self, index: int) -> str:
        """Name of the pair, after the number of its source where there are several."""
        source, entry = self._entries[index]
        name = self._sources[source].name(entry)
        return name if len(self._sources) == 1 else f"{source}-{name}"

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Rainy and clean, uint8 (H, W, 3) each."""
        source, entry = self._entries[index]
        return self._sources[source].load(entry)


def open_photographs(source: SourceConfig, data_root: str = "") -> Pairs | PhotographFiles:
    """The pictures of a source as they are on disk, before any rain is synthesised.

    Raises:
        DataError: the source is not there or is incomplete; the message says where it was looked for and what to do.
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
            f"rainy: the pictures in {root} have no ground truth; they can be evaluated (evaluate.py --photographs), "
            "but not trained on"
        )
    if source.reader == "tfds":
        from multifocal_jax.data.prepared import PreparedPairs

        return PreparedPairs(source.dataset, root, source.split)
    return PairFiles(complete_pairs(source.dataset, root, source.split))


def open_rainy(source: SourceConfig, data_root: str = "") -> RainyFiles:
    """The pictures of a source of dataset "rainy"; arguments and errors as for `open_source`."""
    return RainyFiles(_open_folder(source.dataset, place_of(source, data_root)))


def place_of(source: SourceConfig, data_root: str = "") -> Path:
    """Where a source lies: its root, which counts from `DataConfig.root` unless it is absolute."""
    return as_path(source.root if is_remote(source.root) else os.path.join(data_root, source.root))


def _open_folder(dataset: str, root: Path) -> PhotographFiles:
    files = find_images(root, recursive=True)
    if not files:
        raise DataError(f"{dataset}: no pictures in {root}; expected there: photographs, in subfolders if you like")
    return PhotographFiles(files, root)


def with_frozen_rain(pictures: Pairs | PhotographFiles, source: SourceConfig) -> PairSource:
    """Pairs to score: as they are on disk, or under rain that never changes where the source synthesises it."""
    if source.rain != "none":
        return FrozenRain(pictures, source.rain)
    assert not isinstance(pictures, PhotographFiles)  # SourceConfig refuses photographs without rain
    return pictures


def open_source(source: SourceConfig, data_root: str = "") -> PairSource:
    """Pairs of a source, to be scored or looked at.

    Args:
        source: what to open; its root counts from `data_root` unless it is absolute.
        data_root: `DataConfig.root`.

    Raises:
        DataError: the source is not there or is incomplete; the message says where it was looked for and what to do.
    """
    return with_frozen_rain(open_photographs(source, data_root), source)
