"""From pictures to training batches: batch t is the same in every mode, for any number of processes and workers.

The host sends uint8 crops or, in "device" mode, only their positions; `TrainingData.prepare` turns them into pairs
inside the jitted step.
"""

import itertools
from collections.abc import Iterator
from functools import cached_property
from importlib.util import find_spec
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from multifocal_jax.config import DataConfig
from multifocal_jax.data.crops import (
    Batch,
    CropReader,
    PictureStore,
    ResidentPictures,
    TrainingPictures,
    in_threads,
    read_ahead,
)
from multifocal_jax.data.errors import DataError, ImageError
from multifocal_jax.data.held_out import fingerprint, hold_out
from multifocal_jax.data.plan import BatchPlan
from multifocal_jax.data.rain import add_rain, rain_key
from multifocal_jax.data.sources import (
    IDENTITY,
    ScoredPairs,
    Selection,
    open_photographs,
    with_frozen_rain,
)

Mode = Literal["device", "memory", "stream"]

_SIZED = 64  # pictures whose headers are read to estimate how much memory all of them take


class TrainingData:
    """Random aligned crops of the training pictures.

    Batch t, with its pictures, crop positions, rotations and synthesised rain, is a function of (seed, t) alone.
    Pictures are decoded at the first batch, so that opening a large set is quick.
    """

    def __init__(
        self,
        config: DataConfig,
        batch_size: int,
        seed: int,
        process_index: int = 0,
        process_count: int = 1,
        quiet: bool = False,
    ) -> None:
        """Open the sources.

        Args:
            config: sources, crop size and where decoded pictures are kept.
            batch_size: pairs per step over all processes.
            seed: of order, crops, rotations and rain.
            process_index: number of this process.
            process_count: number of processes, which share every batch evenly.
            quiet: show no bar while pictures are read.

        Raises:
            DataError: a source is missing or incomplete, too many pictures are held out, or the batch does not divide
                evenly.
        """
        if batch_size % process_count:
            raise DataError(f"batch_size {batch_size} does not divide over {process_count} processes")
        self._config, self._seed, self._quiet = config, seed, quiet
        share = batch_size // process_count
        self._rows = (process_index * share, (process_index + 1) * share)
        self._sources = [open_photographs(source, config.root) for source in config.train]
        self._held_out, kept = hold_out(self._sources, config)
        self._scored = [
            with_frozen_rain(pictures, source) for pictures, source in zip(self._sources, config.train, strict=True)
        ]
        self.held_out: ScoredPairs = Selection(self._scored, self._held_out)
        repeats = np.array([source.repeat for source in config.train])
        table = np.array(kept, np.int64).reshape(-1, 2)
        entries = np.repeat(np.arange(len(table)), repeats[table[:, 0]])
        self._pictures = TrainingPictures(self._sources, [source.rain for source in config.train], table, entries)
        self._plan = BatchPlan(len(entries), batch_size, seed, config.flips, config.rotations)
        self._broken: set[int] = set()

    @property
    def batch_size(self) -> int:
        """Pairs per step over all processes."""
        return self._plan.batch_size

    @property
    def pictures(self) -> int:
        """Pictures per epoch, including repeats, without those held out."""
        return self._plan.entries

    @property
    def counts(self) -> list[int]:
        """Pictures of each source, with those held out."""
        return list(map(len, self._sources))

    @cached_property
    def fingerprints(self) -> list[dict[str, Any]]:
        """Fingerprint of each source, for the record of the weights; see `held_out.fingerprint`."""
        return [fingerprint(source) for source in self._sources]

    def held_out_of(self, number: int) -> ScoredPairs:
        """The pictures of `held_out` that belong to `config.train[number]`."""
        return Selection([self._scored[number]], [(0, index) for source, index in self._held_out if source == number])

    def check_held_out(self, smallest: int) -> None:
        """Decode every held-out picture once, so that one that cannot be scored is found before training.

        Raises:
            ImageError: a picture cannot be read.
            DataError: a side is shorter than `smallest` pixels.
        """

        def check(number: int) -> None:
            height, width = self.held_out.check(number, whole=True)
            if min(height, width) < smallest:
                raise DataError(
                    f"held-out picture {self.held_out.name(number)} is {width}x{height}; a score takes at least "
                    f"{smallest}x{smallest}: remove it, or hold out another number of pictures"
                )

        in_threads(check, len(self.held_out), "checking held-out pictures", self._quiet)

    @property
    def skipped(self) -> int:
        """Number of broken pictures found so far, if on_broken is "skip"."""
        return len(self._broken)

    @cached_property
    def mode(self) -> Mode:
        """Where decoded pictures are kept; "auto" decides by their size and the accelerator.

        If the size was underestimated, "device" becomes "memory" when the pictures have been decoded.
        """
        if self._config.mode != "auto":
            return self._config.mode
        pixels = self._estimate_pixels()
        sides = 2 if "none" in self._pictures.rain else 1
        if 3 * pixels * sides > self._config.memory_limit * 2**30:
            return "stream"
        if jax.default_backend() == "cpu" or pixels >= 2**31:
            return "memory"
        limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
        return "memory" if limit is not None and 3 * pixels * sides > limit // 4 else "device"

    def _estimate_pixels(self) -> int:
        """Estimate the pixels of one side of all pictures from the headers of some."""
        count = len(self._pictures)
        pixels = []
        for number in np.linspace(0, count - 1, min(count, _SIZED)).astype(int):
            source, index = self._pictures.table[number]
            try:
                height, width = self._sources[source].size(int(index))
            except ImageError:
                continue  # reported when it is decoded
            pixels.append(height * width)
        return int(np.mean(pixels) * count) if pixels else 0

    @cached_property
    def _store(self) -> PictureStore:
        store = PictureStore(self._pictures, self._config.crop_size, self._config.on_broken == "skip")
        if self.mode != "stream":
            store.decode_all(self._quiet)
            self._broken.update(store.broken)
        return store

    @cached_property
    def _resident(self) -> ResidentPictures | None:
        """The pictures in "device" mode, else None."""
        if self.mode != "device":
            return None
        store = self._store
        try:
            resident = ResidentPictures(self._plan, store)
        except DataError:
            if self._config.mode == "device":
                raise
            self.mode = "memory"
            return None
        del self._store  # replaced by the flat copy
        return resident

    @property
    def resident(self) -> Any:
        """Arrays to put on every device once: the pixels of all pictures, uint8 (P, 3), in "device" mode; else `()`."""
        return self._resident.arrays if self._resident else ()

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """This process's share of batches `start`, `start` + 1, …, without end; the input of `prepare`.

        Raises:
            ImageError: a picture is unreadable and on_broken is "stop".
            DataError: a picture is smaller than the crop, none can be read, or streaming lacks Grain.
        """
        if self._resident:
            return self._resident.batches(start, self._rows)
        return self._cut_batches(start)

    def _cut_batches(self, start: int) -> Iterator[Batch]:
        reader, streamed = CropReader(self._plan, self._store, self._rows), self.mode == "stream"
        if find_spec("grain") is not None:
            cut = read_ahead(reader, start, self._config.workers if streamed else 0)
        elif streamed:
            raise DataError("data.mode='stream' reads ahead with Grain, which is not installed: pip install grain")
        else:
            cut = map(reader, itertools.count(start))  # cutting from memory takes well below a millisecond
        for batch in cut:
            self._broken.update(batch.broken)
            yield batch.arrays

    def prepare(self, resident: Any, batch: dict[str, Any]) -> tuple[jax.Array, jax.Array]:
        """Turn a batch, or one device's share of it, into pairs. Pure; called inside the jitted step.

        Args:
            resident: `self.resident`, on this device.
            batch: from `batches`.

        Returns:
            Rainy and clean, float32 (b, crop, crop, 3) in [0, 1].
        """
        if "offset" in batch:
            sides = {name: self._cut_resident(pixels, batch) for name, pixels in resident.items()}
        else:
            sides = {name: jnp.asarray(batch[name]) for name in ("clean", "rainy") if name in batch}
        sides = {name: _turn(crops, batch).astype(jnp.float32) / 255 for name, crops in sides.items()}
        clean = sides["clean"]
        return self._add_rain(sides.get("rainy", clean), clean, batch)

    def _cut_resident(self, pixels: jax.Array, batch: dict[str, Any]) -> jax.Array:
        crop = self._config.crop_size

        def row(start: jax.Array) -> jax.Array:
            return lax.dynamic_slice(pixels, (start, jnp.zeros_like(start)), (crop, 3))

        starts = batch["offset"][:, None] + batch["width"][:, None] * jnp.arange(crop, dtype=jnp.int32)[None]
        return jax.vmap(jax.vmap(row))(starts)

    def _add_rain(self, rainy: jax.Array, photographs: jax.Array, batch: dict[str, Any]) -> tuple[jax.Array, jax.Array]:
        """Add rain to the crops whose source synthesises it; the rainy side is rounded to 8 bits, as in a file."""
        clean, styles = photographs, self._pictures.rain
        for style in dict.fromkeys(style for style in styles if style not in ("none", IDENTITY)):

            def synthesise(index: jax.Array, crop: jax.Array, style: str = style) -> tuple[jax.Array, jax.Array]:
                rainy, clean = add_rain(rain_key(self._seed, index), crop, style)
                return jnp.round(rainy * 255) / 255, clean

            synthetic = jax.vmap(synthesise)(batch["index"], photographs)
            if "source" in batch:
                wanted = jnp.array([other == style for other in styles])[batch["source"]][:, None, None, None]
                rainy, clean = (
                    jnp.where(wanted, made, side) for made, side in zip(synthetic, (rainy, clean), strict=True)
                )
            else:
                rainy, clean = synthetic
        return rainy, clean


def _turn(crops: jax.Array, batch: dict[str, Any]) -> jax.Array:
    """Mirror crops left to right, then rotate them anticlockwise by multiples of 90°, as the batch says."""

    def where(choice: jax.Array, turned: jax.Array, crops: jax.Array) -> jax.Array:
        return jnp.where(choice[:, None, None, None], turned, crops)

    if "flip" in batch:
        crops = where(batch["flip"] == 1, crops[:, :, ::-1], crops)
    if "turns" in batch:
        crops = where(batch["turns"] >= 2, crops[:, ::-1, ::-1], crops)
        crops = where(batch["turns"] % 2 == 1, jnp.rot90(crops, axes=(1, 2)), crops)
    return crops
