"""TFDS builders of the published sets, from archives that you download yourself; TensorFlow is not imported.

Files are stored as they are (a two-sided picture as two PNGs), in the order of the sorted names and with additional
checks: every picture is decoded once, and the number of pairs must be the published one. A prepared set appears under
its final name when it is complete, so an interrupted build is never mistaken for a complete one.

This module imports tensorflow_datasets; everything else of the package works without it.
"""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image
from tqdm import tqdm

from multifocal_jax.data.errors import DataError
from multifocal_jax.data.layouts import Pair, Picture, complete_pairs
from multifocal_jax.data.published import PUBLISHED

_SHARD = 1000  # pairs per file, so that files of the published sets stay below a gigabyte
_FORMAT = "array_record"


class RainyPairs(tfds.core.GeneratorBasedBuilder):
    """Pairs of a published set. Examples have "rainy" and "clean" pictures, a "name" and a "background"."""

    skip_registration = True  # this is no data set of its own
    code_path = epath.Path(__file__)  # TFDS 4.9.10 looks for it with importlib_resources, on which it does not depend

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "Pairs in the order of their names."}

    def __init_subclass__(cls, **options: Any):
        cls.name = cls.__name__.lower()
        cls.MANUAL_DOWNLOAD_INSTRUCTIONS = _instructions(cls.name)
        super().__init_subclass__(**options)

    def __init__(self, *, any_size: bool = False, **options: Any):
        """In addition to TFDS's arguments: `any_size` accepts other numbers of pairs, or a single split."""
        self._any_size = any_size
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        published = PUBLISHED[self.name]
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{published.title}: pairs of rainy and clean pictures. From {published.archive}.",
            features=tfds.features.FeaturesDict(
                {
                    "rainy": tfds.features.Image(shape=(None, None, 3)),
                    "clean": tfds.features.Image(shape=(None, None, 3)),
                    "name": tfds.features.Text(),
                    "background": tfds.features.Text(),
                }
            ),
            supervised_keys=("rainy", "clean"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[dict[str, Any]]]:
        splits: dict[str, list[Pair]] = {}
        missing: list[DataError] = []
        for split, expected in PUBLISHED[self.name].sizes.items():
            try:
                pairs = complete_pairs(self.name, Path(dl_manager.manual_dir), split)
            except DataError as error:
                if not self._any_size:
                    raise
                missing.append(error)
                continue
            if len(pairs) != expected and not self._any_size:
                raise DataError(
                    f"{self.name}: {dl_manager.manual_dir} has {len(pairs):,} {split} pairs, the published set has "
                    f"{expected:,}; complete it, or build what is there with any_size"
                )
            if pairs in splits.values():
                both = " and ".join([*splits, split])
                raise DataError(
                    f"{self.name}: {dl_manager.manual_dir} has one folder of pairs for {both}; name it after its split"
                )
            splits[split] = pairs
        if not splits:
            raise missing[0]
        return {split: self._generate_examples(pairs) for split, pairs in splits.items()}

    def _generate_examples(self, pairs: list[Pair]) -> Iterator[dict[str, Any]]:
        for pair in tqdm(pairs, self.name, unit="pairs", leave=False, disable=None):
            rainy, clean = pair.load()  # names a file that is broken, or a pair of two sizes
            yield {
                "rainy": _stored(pair.rainy, rainy),
                "clean": _stored(pair.clean, clean),
                "name": pair.name,
                "background": pair.clean.path.stem,
            }

    def _download_and_prepare(
        self, dl_manager: tfds.download.DownloadManager, download_config: tfds.download.DownloadConfig
    ) -> None:
        """Write the examples in their order.

        TFDS's builders sort first. They hold all examples in memory or, from 1 GB on, in files that they open with
        TensorFlow; these sets are larger and in order already.
        """
        splits, info = self._split_generators(dl_manager), self._info()  # which names the folder to write to now
        writer = tfds.core.SequentialWriter(info, _SHARD, file_format=_FORMAT)
        writer.initialize_splits(list(splits))
        writer.add_examples(splits)  # pyright: ignore[reportArgumentType]  # it only iterates over them
        writer.close_all()
        self.info.set_splits(info.splits)


def _stored(picture: Picture, pixels: np.ndarray) -> str | io.BytesIO:
    """The file itself, or the half of one as PNG."""
    if picture.half == "whole":
        return os.fspath(picture.path)
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    png.seek(0)
    return png


def _instructions(name: str) -> str:
    published = PUBLISHED[name]
    sizes = " and ".join(f"{size:,} {split}" for split, size in published.sizes.items())
    return f"Get {published.archive}. Unpack it, so that there is {published.layout}: {sizes} pairs."


class Rain200H(RainyPairs):
    """Heavy rain, 1,800 + 200 pairs."""


class Rain200L(RainyPairs):
    """Light rain, 1,800 + 200 pairs."""


class Rain100H(RainyPairs):
    """Heavy rain, 1,800 + 100 pairs."""


class Rain100L(RainyPairs):
    """Light rain, 200 + 100 pairs."""


class Rain800(RainyPairs):
    """700 + 100 two-sided pictures, the clean side left."""


class Rain1400(RainyPairs):
    """12,600 + 1,400 pairs, 14 rains over every clean picture."""


class Did(RainyPairs):
    """12,000 + 1,200 two-sided pictures, the rainy side left."""


class Spa(RainyPairs):
    """Real rain, 638,492 + 1,000 pairs."""


BUILDERS: dict[str, type[RainyPairs]] = {
    builder.name: builder for builder in (Rain200H, Rain200L, Rain100H, Rain100L, Rain800, Rain1400, Did, Spa)
}


def prepare(name: str, root: str | Path, data_dir: str | Path, any_size: bool = False) -> dict[str, int]:
    """Build a set as array_record files, atomically.

    Args:
        name: a key of `BUILDERS`.
        root: folder of its unpacked archives.
        data_dir: folder of prepared sets, each in a subfolder of its name.
        any_size: accept other numbers of pairs than the published ones, or a single split.

    Returns:
        The number of pairs in every split.

    Raises:
        DataError: the set is unknown, incomplete, broken, or `data_dir` cannot be written to.
    """
    if name not in BUILDERS:
        raise DataError(f"there is no data set {name!r}; known: {', '.join(BUILDERS)}")
    if not Path(root).is_dir():
        raise DataError(f"{name}: folder {root} does not exist. {_instructions(name)}")
    try:
        builder = BUILDERS[name](data_dir=os.fspath(data_dir), file_format=_FORMAT, any_size=any_size)
        if builder.data_path.exists():
            raise DataError(f"{name} is prepared already in {builder.data_path}; delete that folder to build it again")
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=os.fspath(root), verify_ssl=True)
        )
    except OSError as error:
        raise DataError(f"{name} cannot be written to {data_dir}: {error}; choose another data_dir") from None
    return {split: int(info.num_examples) for split, info in builder.info.splits.items()}
