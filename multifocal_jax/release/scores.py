"""Scores of weights on pictures that they were not trained on, in every metric family."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from multifocal_jax.config import DataConfig, SourceConfig
from multifocal_jax.data.pipeline import TrainingData
from multifocal_jax.data.sources import PairSource, open_source
from multifocal_jax.evaluation.metrics import FAMILIES, UNCHANGED, score

Derain = Callable[[np.ndarray], np.ndarray]
Figures = dict[str, tuple[float, float]]  # metric family → mean PSNR in dB and mean SSIM


@dataclass(frozen=True)
class Group:
    """Pictures that a row of the table of scores is about."""

    title: str
    pairs: PairSource


@dataclass(frozen=True)
class Row:
    """Mean scores of a group."""

    title: str
    pictures: int
    input: Figures | None  # of the rainy pictures; None where the input is the reference
    result: Figures


def held_out_groups(data: DataConfig) -> list[Group]:
    """The pictures that a training sets aside, source by source; those of its test source if it sets none aside.

    Raises:
        DataError: a source is missing.
    """
    opened = TrainingData(data, batch_size=1, seed=0)
    groups = [
        Group(f"{spell_source(source)}, held out", opened.held_out_of(number))
        for number, source in enumerate(data.train)
    ]
    groups = [group for group in groups if len(group.pairs)]
    return groups or [Group(f"{spell_source(data.test)}, test", open_source(data.test, data.root))]


def spell_source(source: SourceConfig) -> str:
    """`rain100l`, `bsds500_clean under light rain`, `bsds500_clean without rain`."""
    name = source.root if source.dataset in ("clean", "folder") else source.dataset
    rain = {"none": "", "identity": " without rain"}.get(source.rain, f" under {source.rain} rain")
    return name.strip("/").split("/")[-1] + rain


def score_group(derain: Derain, group: Group, limit: int = 0) -> Row:
    """De-rain the pictures of a group and compare them with the clean ones.

    Args:
        derain: maps uint8 (H, W, 3) to the same.
        group: what to score.
        limit: take at most so many pictures; 0 takes all.
    """
    before, after = [], []
    for index in range(_count(group.pairs, limit)):
        rainy, clean = group.pairs.load(index)
        before.append(_all_families(rainy, clean))
        after.append(_all_families(derain(rainy), clean))
    return Row(group.title, len(after), _means(before), _means(after))


def score_unharmed(derain: Derain, groups: list[Group], limit: int = 0) -> Row:
    """De-rain the clean pictures of the groups, each once, and compare the results with the pictures themselves.

    One that comes out equal counts as `UNCHANGED`, so that there is a mean.
    """
    seen, after = set(), []
    for group in groups:
        for index in range(_count(group.pairs, limit)):
            _, clean = group.pairs.load(index)
            if clean.tobytes() not in seen:
                seen.add(clean.tobytes())
                after.append([(min(psnr, UNCHANGED), ssim) for psnr, ssim in _all_families(derain(clean), clean)])
    return Row("these pictures without rain, result against input", len(after), None, _means(after))


def _count(pairs: PairSource, limit: int) -> int:
    return min(limit, len(pairs)) if limit else len(pairs)


def _all_families(image: np.ndarray, reference: np.ndarray) -> list[tuple[float, float]]:
    scores = [score(image, reference, family) for family in FAMILIES]
    return [(found.psnr, found.ssim) for found in scores]


def _means(rows: list[list[tuple[float, float]]]) -> Figures:
    means = np.mean(rows, axis=0)
    return {family: (float(psnr), float(ssim)) for family, (psnr, ssim) in zip(FAMILIES, means, strict=True)}
