"""Scores of weights on pictures that they were not trained on, in every metric family."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from multifocal_jax.config import DataConfig, SourceConfig
from multifocal_jax.data.pipeline import TrainingData
from multifocal_jax.data.sources import PairSource, ScoredPairs, open_source
from multifocal_jax.evaluation.metrics import FAMILIES, UNCHANGED
from multifocal_jax.evaluation.report import Report, Side
from multifocal_jax.evaluation.scoring import evaluate

Derain = Callable[[np.ndarray], np.ndarray]
Figures = dict[str, tuple[float, float]]  # metric family → mean PSNR in dB and mean SSIM


class Group(NamedTuple):
    """Pictures of one row in the table of scores."""

    title: str
    pairs: ScoredPairs


@dataclass(frozen=True)
class Row:
    """Mean scores of a group."""

    title: str
    pictures: int
    input: Figures | None  # of the rainy pictures; None where the input is the reference
    result: Figures


def held_out_groups(data: DataConfig) -> list[Group]:
    """The pictures that a training holds out, source by source; those of its test source if it holds out none.

    Raises:
        DataError: a source is missing.
    """
    opened = TrainingData(data, batch_size=1, seed=0)
    held_out = ((source, opened.held_out_of(number)) for number, source in enumerate(data.train))
    groups = [Group(f"{spell_source(source)}, held out", pairs) for source, pairs in held_out if len(pairs)]
    return groups or [Group(f"{spell_source(data.test)}, test", open_source(data.test, data.root))]


def spell_source(source: SourceConfig) -> str:
    """`rain100l`, `bsds500_clean under light rain`, `bsds500_clean without rain`."""
    name = source.root if source.dataset in ("clean", "folder") else source.dataset
    rain = {"none": "", "identity": " without rain"}.get(source.rain, f" under {source.rain} rain")
    return name.strip("/").split("/")[-1] + rain


def score_group(derain: Derain, group: Group, limit: int = 0) -> Row:
    """De-rain the pictures of a group, uint8 (B, H, W, 3), at most `limit` unless that is 0, and score the results."""
    report = evaluate(derain, group.pairs, limit=limit)
    return Row(group.title, len(report.pictures), _figures(report, "input"), _figures(report, "result"))


def score_unharmed(derain: Derain, groups: list[Group], limit: int = 0) -> Row:
    """De-rain the clean pictures of the groups, each once, and compare the results with the pictures themselves.

    An equal result counts as `UNCHANGED`, so that the mean is finite.
    """
    report = evaluate(derain, _WithoutRain(groups, limit))
    title = "these pictures without rain, result against input"
    return Row(title, len(report.pictures), None, _figures(report, "result"))


class _WithoutRain:
    """The clean pictures of groups, each once, as pairs with themselves."""

    def __init__(self, groups: list[Group], limit: int) -> None:
        places: dict[bytes, tuple[PairSource, int]] = {}
        for _, pairs in groups:
            for index in range(min(limit or len(pairs), len(pairs))):
                places.setdefault(hashlib.sha256(pairs.load(index)[1].tobytes()).digest(), (pairs, index))
        self._places = list(places.values())

    def __len__(self) -> int:
        return len(self._places)

    def name(self, index: int) -> str:
        return f"{index}"

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        pairs, place = self._places[index]
        _, clean = pairs.load(place)
        return clean, clean


def _figures(report: Report, side: Side) -> Figures:
    figures = {}
    for family in FAMILIES:
        scores = [getattr(picture, side)[family] for picture in report.pictures]
        means = np.mean([(min(found.psnr, UNCHANGED), found.ssim) for found in scores], axis=0)
        figures[family] = tuple(means.tolist())
    return figures
