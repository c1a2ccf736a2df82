"""Batches of aligned crops, cut on the host from pictures that are kept in memory or read when needed.

A `CropReader` gives batch t by random access and imports no JAX, so that it runs in threads and worker processes alike.
"""

import itertools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np

from multifocal_jax.data.errors import DataError, ImageError
from multifocal_jax.data.plan import BatchPlan, Samples, crop_start
from multifocal_jax.data.sources import PhotographFiles, Photographs

Images = tuple[np.ndarray | None, np.ndarray]  # rainy (None where rain is synthesised) and clean, uint8 (H, W, 3)
Batch = dict[str, np.ndarray]
Result = TypeVar("Result")

_BLOCK = 64  # batches whose crop positions are computed at once in "device" mode


@dataclass(frozen=True)
class TrainingPictures:
    """The pictures to train on, numbered over all sources, and how often an epoch uses each."""

    sources: Sequence[Photographs]
    rain: Sequence[str]  # style of each source, "none" for real rain
    table: np.ndarray  # (pictures, 2): source and index in it
    entries: np.ndarray  # (entries of an epoch,): number of the picture

    def __len__(self) -> int:
        return len(self.table)

    def name(self, number: int) -> str:
        source, index = self.table[number]
        return self.sources[source].name(int(index))

    def load(self, number: int) -> Images:
        """Decode a picture; raises `ImageError` if it cannot be read."""
        source, index = (int(value) for value in self.table[number])
        pictures = self.sources[source]
        if self.rain[source] == "none":
            assert not isinstance(pictures, PhotographFiles)  # SourceConfig refuses photographs without rain
            return pictures.load(index)
        return None, pictures.load_clean(index)

    def stand_ins(self, number: int) -> Iterator[int]:
        """The picture, followed by those that may replace it if it is broken, the next of its own source first.

        A pair with real rain is only replaced by other such pairs, as the step would not add rain to a replacement.
        """
        yield number
        source, others = self.table[number, 0], np.roll(np.arange(len(self)), -number)[1:]
        if self.rain[source] == "none":
            others = others[np.array([style == "none" for style in self.rain])[self.table[others, 0]]]
        yield from others[np.argsort(self.table[others, 0] != source, kind="stable")].tolist()


@dataclass
class PictureStore:
    """Decodes pictures when they are needed, or all at once; see `TrainingPictures.stand_ins` for broken ones."""

    pictures: TrainingPictures
    crop: int
    skip_broken: bool
    broken: list[int] = field(default_factory=list)
    decoded: dict[int, Images] = field(default_factory=dict)

    def decode_all(self, quiet: bool = False) -> None:
        """Decode and keep all pictures, with a bar unless `quiet`; errors as for `load`."""
        read = in_threads(self._read, len(self.pictures), "decoding", quiet)
        self.decoded = {number: images for number, images in enumerate(read) if images is not None}
        self.broken = [number for number, images in enumerate(read) if images is None]
        self.decoded |= {number: self.load(number) for number in self.broken}

    def load(self, number: int) -> Images:
        """The picture, or the first that can take its place.

        Raises:
            ImageError: it is unreadable and `skip_broken` is off.
            DataError: it is smaller than the crop and `skip_broken` is off, or none can replace it.
        """
        for candidate in self.pictures.stand_ins(number):
            if candidate in self.decoded:
                return self.decoded[candidate]
            if candidate not in self.broken:
                images = self._read(candidate)
                if images is not None:
                    return images
                self.broken.append(candidate)
        raise DataError(
            f"training picture {self.pictures.name(number)} cannot be read, nor can any that could take its place; "
            "run: multifocal data check FOLDER"
        )

    def _read(self, number: int) -> Images | None:
        """Decode a picture; None if it is unreadable, or smaller than the crop, and `skip_broken` is on."""
        try:
            rainy, clean = self.pictures.load(number)
        except ImageError as error:
            if not self.skip_broken:
                raise ImageError(f"{error} (data.on_broken='skip' trains without it)") from None
            logging.getLogger(__name__).warning("skipped: %s", error)
            return None
        height, width, _ = clean.shape
        if min(height, width) < self.crop:
            reason = (
                f"picture {self.pictures.name(number)} is {width}x{height}, smaller than the crop of "
                f"{self.crop}x{self.crop}"
            )
            if not self.skip_broken:
                raise DataError(
                    f"{reason}; set data.crop_size to at most {min(height, width)}, remove the picture, or train "
                    "without it by data.on_broken='skip', which may also be set when a run is resumed"
                )
            logging.getLogger(__name__).warning("skipped: %s", reason)
            return None
        return rainy, clean


def thread_count() -> int:
    """Threads for reading pictures: the cores that this process may use, at most 16."""
    return min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def in_threads(work: Callable[[int], Result], count: int, title: str, quiet: bool = False) -> list[Result]:
    """The results of `work` for 0 to `count` - 1, computed in `thread_count()` threads; the first error stops it.

    On a terminal a bar with the title shows the progress, unless `quiet`.
    """
    from tqdm import tqdm

    with ThreadPoolExecutor(thread_count()) as pool:
        tasks = pool.map(work, range(count))
        try:
            return list(tqdm(tasks, title, count, unit="pictures", leave=False, disable=quiet or None))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class CutBatch(NamedTuple):
    """A batch from a worker."""

    arrays: Batch  # "clean" and, where a source has real rain, "rainy": uint8 (b, crop, crop, 3)
    broken: tuple[int, ...]  # pictures found unreadable so far


@dataclass(frozen=True)
class CropReader:
    """Cuts one process's share of batch t."""

    plan: BatchPlan
    store: PictureStore
    rows: tuple[int, int]  # this process's rows of the global batch

    def __call__(self, t: int) -> CutBatch:
        samples, pictures, crop = self.plan.batch(t, self.rows), self.store.pictures, self.store.crop
        clean = np.empty((len(samples.index), crop, crop, 3), np.uint8)
        rainy = np.empty_like(clean) if "none" in pictures.rain else None
        for row, number in enumerate(pictures.entries[samples.entry]):
            wet, dry = self.store.load(int(number))
            height, width, _ = dry.shape
            top = int(crop_start(samples.top[row], height, crop))
            left = int(crop_start(samples.left[row], width, crop))
            clean[row] = dry[top : top + crop, left : left + crop]
            if rainy is not None:
                rainy[row] = (dry if wet is None else wet)[top : top + crop, left : left + crop]
        arrays = {"clean": clean} if rainy is None else {"clean": clean, "rainy": rainy}
        return CutBatch(arrays | sample_fields(samples, self.plan, pictures), tuple(self.store.broken))


def sample_fields(samples: Samples, plan: BatchPlan, pictures: TrainingPictures) -> Batch:
    """What the device needs to know about every crop in addition to its pixels."""
    fields: Batch = {}
    if plan.flips:
        fields["flip"] = samples.flip
    if plan.rotations:
        fields["turns"] = samples.turns
    if any(style != "none" for style in pictures.rain):
        fields["index"] = (samples.index % 2**32).astype(np.uint32)
        if len(set(pictures.rain)) > 1:
            fields["source"] = pictures.table[pictures.entries[samples.entry], 0].astype(np.int32)
    return fields


class ResidentPictures:
    """All pictures as flat rows of pixels, to be kept on the device, and batches of the crops' positions."""

    def __init__(self, plan: BatchPlan, store: PictureStore):
        """Concatenate the pictures.

        Raises:
            DataError: there are more pixels than 32-bit positions can count.
        """
        self._plan, self._pictures, self._crop = plan, store.pictures, store.crop
        images = [store.load(number) for number in range(len(store.pictures))]
        shapes = np.array([clean.shape[:2] for _, clean in images], np.int64)
        self._heights, self._widths = shapes.T
        ends = np.cumsum(shapes.prod(axis=1))
        if ends[-1] >= 2**31:
            raise DataError(
                f"the training pictures have {ends[-1]:,} pixels; data.mode='device' can hold {2**31 - 1:,}: set "
                "data.mode to 'memory' or 'stream'"
            )
        self._offsets = np.concatenate([[0], ends[:-1]])
        self.arrays = {"clean": np.concatenate([clean.reshape(-1, 3) for _, clean in images])}
        if "none" in self._pictures.rain:
            sides = (clean if rainy is None else rainy for rainy, clean in images)
            self.arrays["rainy"] = np.concatenate([side.reshape(-1, 3) for side in sides])

    def batches(self, start: int, rows: tuple[int, int]) -> Iterator[Batch]:
        """The start positions of the crops of `rows` of batches `start`, `start` + 1, …

        "offset" counts pixels and "width" is that of the picture; int32. Positions are computed for many batches at
        once, so that the host needs only a few microseconds per batch.
        """
        within = np.arange(*rows, dtype=np.int64)
        for first in itertools.count(start, _BLOCK):
            batches = np.arange(first, first + _BLOCK, dtype=np.int64)[:, None]
            block = self._positions((batches * self._plan.batch_size + within).ravel())
            block = {name: values.reshape(_BLOCK, len(within)) for name, values in block.items()}
            for position in range(_BLOCK):
                yield {name: values[position] for name, values in block.items()}

    def _positions(self, index: np.ndarray) -> Batch:
        samples = self._plan.samples(index)
        numbers = self._pictures.entries[samples.entry]
        widths = self._widths[numbers]
        tops = crop_start(samples.top, self._heights[numbers], self._crop)
        lefts = crop_start(samples.left, widths, self._crop)
        positions = {
            "offset": (self._offsets[numbers] + tops * widths + lefts).astype(np.int32),
            "width": widths.astype(np.int32),
        }
        return positions | sample_fields(samples, self._plan, self._pictures)


def read_ahead(batch: Callable[[int], CutBatch], start: int, workers: int) -> Iterator[CutBatch]:
    """Batches `start`, `start` + 1, …, prefetched by Grain in so many processes or, for 0, threads of this one.

    Grain's element is a whole batch, which costs far less than single crops.
    """
    import grain

    threads = 1 if workers else thread_count()
    dataset = grain.MapDataset.range(start, 2**62).map(batch)
    ahead = dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads))
    if workers:
        from absl import flags

        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain's workers read a flag of its own, even if no entry point parsed any
        ahead = ahead.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=4))
    iterator = iter(ahead)
    try:
        for cut in iterator:
            if workers:  # copy out of the shared memory in which processes send arrays, so that it is freed
                cut = CutBatch({name: np.array(array) for name, array in cut.arrays.items()}, cut.broken)
            yield cut
    finally:
        iterator.close()
