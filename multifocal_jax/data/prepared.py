"""Sets prepared by their TFDS builders, read with random access and without TensorFlow."""

import io
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from multifocal_jax.data.errors import DataError, ImageError
from multifocal_jax.data.images import decode_image, decode_size, one_line
from multifocal_jax.paths import as_absolute


class PreparedPairs:
    """Pairs of a prepared set, in the order of their names. Can be sent to worker processes."""

    def __init__(self, dataset: str, data_dir: Path, split: str):
        """Open a set.

        Raises:
            DataError: the set is not prepared there or lacks the split, or tensorflow_datasets is not installed.
        """
        self._where = (dataset, data_dir, split)
        self._records = _open_records(*self._where)

    def __getstate__(self) -> dict[str, Any]:
        return {"_where": self._where}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._where = state["_where"]
        self._records = _open_records(*self._where)

    def __len__(self) -> int:
        return len(self._records)

    def name(self, index: int) -> str:
        """Stem of the rainy file that the pair was built from."""
        return self._record(index)["name"].decode()

    def background(self, index: int) -> str:
        """Stem of the clean file that the pair was built from."""
        return self._record(index)["background"].decode()

    def scene(self, index: int) -> tuple[object, ...]:
        """The set and the index in it, because reading every name would read every record."""
        return *self._set, index

    @cached_property
    def _set(self) -> tuple[object, ...]:
        dataset, data_dir, split = self._where
        return dataset, as_absolute(data_dir), split

    def alike(self, index: int) -> set[tuple[object, ...]]:
        """The scenes of the picture and of its neighbours in the order of the names that share its background."""
        background, scenes = self.background(index), {self.scene(index)}
        for step in (-1, 1):
            other = index + step
            while 0 <= other < len(self) and self.background(other) == background:
                scenes.add(self.scene(other))
                other += step
        return scenes

    def weight(self, index: int) -> int:
        """Size of the stored clean picture in bytes."""
        return len(self._record(index)["clean"])

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of the clean side."""
        return self._size(index, "clean")

    def check(self, index: int, whole: bool = False) -> tuple[int, int]:
        """Height and width of both sides, from their headers or, where `whole` is set, after decoding them."""
        if whole:
            return self.load(index)[1].shape[:2]
        size = self._size(index, "clean")
        if self._size(index, "rainy") != size:
            raise self._unequal(index)
        return size

    def _size(self, index: int, side: str) -> tuple[int, int]:
        return decode_size(io.BytesIO(self._record(index)[side]), self._spell(index))

    def _unequal(self, index: int) -> ImageError:
        return ImageError(f"{self._spell(index)} has sides of different sizes; prepare the set again")

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Rainy and clean, uint8 (H, W, 3) each.

        Raises:
            ImageError: the record is damaged.
        """
        record = self._record(index)
        rainy, clean = (decode_image(io.BytesIO(record[side]), self._spell(index)) for side in ("rainy", "clean"))
        if rainy.shape != clean.shape:
            raise self._unequal(index)
        return rainy, clean

    def load_clean(self, index: int) -> np.ndarray:
        """uint8 (H, W, 3)."""
        return decode_image(io.BytesIO(self._record(index)["clean"]), self._spell(index))

    def _record(self, index: int) -> dict[str, Any]:
        try:
            return self._records[index]
        except RuntimeError as error:  # array_record's, of a file that is damaged or gone
            raise ImageError(f"{self._spell(index)} cannot be read: {one_line(error)}; prepare the set again") from None

    def _spell(self, index: int) -> str:
        dataset, data_dir, split = self._where
        return f"{data_dir / dataset} {split} record {index}"


def _open_records(dataset: str, data_dir: Path, split: str) -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise DataError(
            "reader='tfds' needs tensorflow-datasets and array_record, which are not installed: "
            "pip install tensorflow-datasets array_record"
        ) from None
    versions = sorted((data_dir / dataset).glob("[0-9]*.[0-9]*.[0-9]*/dataset_info.json"))
    if not versions:
        raise DataError(
            f"{dataset} is not prepared in {data_dir}; run: multifocal data prepare {dataset} --root "
            f"UNPACKED_ARCHIVES --data-dir {data_dir}"
        )
    folder = versions[-1].parent
    try:
        builder = tfds.builder_from_directory(folder)
    except Exception as error:  # of many types, by which file is damaged
        raise DataError(f"the prepared set in {folder} is damaged: {one_line(error)}; prepare it again") from None
    if split not in builder.info.splits:
        raise DataError(
            f"{dataset} in {data_dir} has no {split} split, only {', '.join(builder.info.splits)}; prepare it again "
            "from a folder that has both"
        )
    # Pictures are decoded only by this package, so that both readers return the same pixels.
    undecoded = {name: tfds.decode.SkipDecoding() for name in ("rainy", "clean")}
    try:
        # A decorator of TFDS hides the signature from the type checker.
        return builder.as_data_source(split, decoders=undecoded)  # pyright: ignore[reportCallIssue]
    except (RuntimeError, ValueError, OSError) as error:
        raise DataError(f"the prepared set in {folder} is damaged: {one_line(error)}; prepare it again") from None
