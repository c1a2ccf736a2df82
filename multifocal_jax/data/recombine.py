"""More pairs from few: the rain of one pair over the clean side of another, where rain is a grey layer that was added.

So it is in Rain100L: O = B + R, cut off at 255. A network that trains long on a few hundred pairs learns which rain
goes with which background; this keeps it from that.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from multifocal_jax.config import DataConfig, SourceConfig
from multifocal_jax.data.crops import in_threads
from multifocal_jax.data.errors import DataError
from multifocal_jax.data.held_out import hold_out
from multifocal_jax.data.images import write_image
from multifocal_jax.data.sources import open_photographs, with_frozen_rain
from multifocal_jax.files import make_folder

_DEVIATION = 1.0  # mean deviation of a rainy side from clean + layer that rounding explains, of 255


def recombine(settings: SourceConfig, folder: Path, copies: int, held_out: int = 0, seed: int = 0) -> int:
    """Write pairs as PNG to `folder/rain` and `folder/norain`, named CLEAN+RAIN after the two pairs they are made of.

    Rain is mirrored at random, and cut at random from pairs that are larger.

    Args:
        settings: the pairs.
        folder: to write to; created.
        copies: pairs for every clean side, each with the rain of another pair; fewer where too few pairs are as large.
        held_out: so many pairs, those that `SourceConfig.held_out` holds out, give neither rain nor background.
        seed: of the choice.

    Returns:
        The number of pairs written.

    Raises:
        DataError: the pairs are missing, rain was not added as a grey layer, no two pairs fit, or the folder is not
            empty.
        ImageError: a pair cannot be read.
    """
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty; choose another folder")
    photographs = open_photographs(settings)
    pairs = with_frozen_rain(photographs, settings)
    _, kept = hold_out([photographs], DataConfig(train=(settings,), held_out=held_out))
    chosen = [index for _, index in kept]
    sizes = np.array(in_threads(lambda place: pairs.check(chosen[place]), len(chosen), "reading sizes"))
    jobs = _choose(sizes, copies, np.random.default_rng(seed))
    if not jobs:
        raise DataError(f"{settings.root}: no pair is as large as another; nothing to recombine")
    sides = {side: folder / side for side in ("rain", "norain")}
    for side in sides.values():
        make_folder(side)

    def write(number: int) -> None:
        background, other = (chosen[place] for place in jobs[number])
        name = f"{pairs.name(background)}+{pairs.name(other)}.png"
        _, clean = pairs.load(background)
        try:
            layer = rain_layer(*pairs.load(other))
        except ValueError as error:
            raise DataError(f"{pairs.name(other)}: {error}") from None
        height, width, _ = clean.shape
        rng = np.random.default_rng((seed, number))
        flip, top, left = rng.integers((2, layer.shape[0] - height + 1, layer.shape[1] - width + 1))
        layer = layer[top : top + height, left : left + width]
        rainy = add_layer(clean, layer[:, ::-1] if flip else layer)
        for side, picture in (("norain", clean), ("rain", rainy)):
            write_image(sides[side] / name, picture)

    in_threads(write, len(jobs), "recombining")
    return len(jobs)


def rain_layer(rainy: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """The grey layer that was added: that of the channel that shows most of it, as others may be cut off at 255.

    Args:
        rainy: uint8 (H, W, 3).
        clean: uint8 (H, W, 3).

    Returns:
        uint8 (H, W).

    Raises:
        ValueError: rainy is not clean plus a grey layer.
    """
    layer = (rainy.astype(np.int16) - clean).max(-1).clip(0, 255).astype(np.uint8)
    deviation = np.abs(add_layer(clean, layer).astype(np.int16) - rainy).mean()
    if deviation > _DEVIATION:
        raise ValueError(
            f"its rainy side is not the clean one plus a grey layer (a mean difference of {deviation:.1f} of 255); "
            "only such rain can be moved to another picture"
        )
    return layer


def add_layer(clean: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """O = B + R, cut off at 255: uint8 (H, W, 3) and uint8 (H, W) to uint8 (H, W, 3)."""
    return np.minimum(clean.astype(np.uint16) + layer[..., None], 255).astype(np.uint8)


def _choose(sizes: np.ndarray, copies: int, rng: np.random.Generator) -> Sequence[tuple[int, int]]:
    """(background, rain), so that no two are equal and every rain is at least as large as its background."""
    jobs = []
    for background, size in enumerate(sizes):
        fits = np.flatnonzero((sizes >= size).all(-1) & (np.arange(len(sizes)) != background))
        jobs += [(background, int(other)) for other in rng.permutation(fits)[:copies]]
    return jobs
