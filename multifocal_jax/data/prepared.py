"""Sets prepared by their TFDS builders, read with random access and without TensorFlow."""

import io
import itertools
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from multifocal_jax.data.errors import DataError, ImageError
from multifocal_jax.data.images import decode_image, decode_size, one_line
from multifocal_jax.paths import as_absolute


class PreparedPairs:
    """`Pairs` of a prepared set, in the order of their names. Can be sent to worker processes."""

    def __init__(self, dataset: str, data_dir: Path, split: str):
        """Open a set.

        Raises:
            DataError: the set is not prepared there or lacks the split, or tensorflow_datasets is not installed.
        """
        self._where = (dataset, data_dir, split)
        self._records = _open_records(*self._where)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._where

    def __len__(self) -> int:
        return len(self._records)

    def name(self, index: int) -> str:
        return self._record(index)["name"].decode()

    def background(self, index: int) -> str:
        """Stem of the clean file that the pair was built from."""
        return self._record(index)["background"].decode()

    def scene(self, index: int) -> tuple[object, ...]:
        return *self._set, index  # not the name, as reading every name would read every record

    @cached_property
    def _set(self) -> tuple[object, ...]:
        dataset, data_dir, split = self._where
        return dataset, as_absolute(data_dir), split

    def alike(self, index: int) -> set[tuple[object, ...]]:
        """The scenes of the picture and of its neighbours in the order of the names that share its background."""
        background, scenes = self.background(index), {self.scene(index)}
        for others in (range(index - 1, -1, -1), range(index + 1, len(self))):
            for other in itertools.takewhile(lambda other: self.background(other) == background, others):
                scenes.add(self.scene(other))
        return scenes

    def weight(self, index: int) -> int:
        return len(self._record(index)["clean"])

    def size(self, index: int) -> tuple[int, int]:
        return decode_size(io.BytesIO(self._record(index)["clean"]), self._spell(index))

    def check(self, index: int, whole: bool = False) -> tuple[int, int]:
        if whole:
            return self.load(index)[1].shape[:2]
        rainy, clean = self._decode(index, decode_size)
        self._check_sizes(index, rainy, clean)
        return clean

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rainy, clean = self._decode(index, decode_image)
        self._check_sizes(index, rainy.shape, clean.shape)
        return rainy, clean

    def _decode(self, index: int, decode: Callable[[BinaryIO, str], Any]) -> list[Any]:
        """Both sides, rainy first."""
        record = self._record(index)
        return [decode(io.BytesIO(record[side]), self._spell(index)) for side in ("rainy", "clean")]

    def _check_sizes(self, index: int, rainy: tuple[int, ...], clean: tuple[int, ...]) -> None:
        if rainy != clean:
            raise ImageError(f"{self._spell(index)} has sides of different sizes; prepare the set again")

    def load_clean(self, index: int) -> np.ndarray:
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
