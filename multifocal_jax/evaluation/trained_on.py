"""Which of the pictures to score the weights were trained on, according to the config in their record."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from multifocal_jax.config import DataConfig, ExperimentConfig, SourceConfig
from multifocal_jax.config_files import changed_fields, from_dict
from multifocal_jax.data.errors import DataError, ImageError
from multifocal_jax.data.held_out import fingerprint, hold_out
from multifocal_jax.data.published import PUBLISHED
from multifocal_jax.data.sources import Checked, Pairs, PhotographFiles, Scene, open_photographs, place_of
from multifocal_jax.errors import UserError
from multifocal_jax.paths import as_absolute
from multifocal_jax.weights_lookup import lineage

Fingerprint = Mapping[str, Any] | None  # None where the record has none
Training = tuple[DataConfig, Sequence[Fingerprint]]  # with the fingerprint of each source


@dataclass(frozen=True)
class TrainedOn:
    """What is known about weights and pictures."""

    indices: frozenset[int]  # of the pictures that the weights were trained on
    unknown: str  # why the weights may have been trained on more of them, in words; empty if all is known
    changed: str  # the place of pictures to score that have changed since the training; empty otherwise
    advice: str  # how to make `split="held_out"` score the pictures that the training held out


def find_trained_on(record: Mapping[str, Any], pictures: Checked, count: int, here: DataConfig) -> TrainedOn:
    """Which of the first `count` pictures to score weights with this record were trained on.

    The training's sources are searched where it read them and, in case the data has moved, where the evaluation's data
    `here` has the same published set or a copy with the same fingerprint. Weights without a record are assumed to be
    trained on the training sources of `here`. Weights from which a training started count as well.
    """
    trainings, doubts = _trainings(record)
    if "config" not in record:
        trainings = [(here, [None] * len(here.train))]
    scenes: set[Scene] = set()
    changed: list[str] = []
    for training in trainings:
        scenes |= _scenes(training, here, doubts, changed)
    return TrainedOn(
        indices=frozenset(index for index in range(count) if pictures.alike(index) & scenes),
        unknown="; ".join(dict.fromkeys([*doubts, *changed])),
        changed="; ".join(dict.fromkeys(changed)),
        advice=_advice(trainings[0][0], here) if trainings else "",
    )


def _trainings(record: Mapping[str, Any]) -> tuple[list[Training], list[str]]:
    """The training of a record and those before it, the last first; and what is not known about them."""
    trainings: list[Training] = []
    records, gap = lineage(record)
    doubts = [gap] if gap else []
    for whose, each in records:
        if each.get("averaged"):
            doubts.append(f"{whose} are a mean with others, of which nothing is recorded")
        try:
            data = from_dict(ExperimentConfig, each["config"]).data
        except (UserError, TypeError, AttributeError):
            doubts.append(f"the record of {whose} is of another version")
            continue
        trainings.append((data, each.get("sources") or [None] * len(data.train)))
    return trainings, doubts


def _scenes(training: Training, here: DataConfig, unknown: list[str], changed: list[str]) -> set[Scene]:
    """The clean pictures of a training; notes which sources are not found, and which of those to score have changed."""
    data, prints = training
    opened: list[tuple[SourceConfig, list[Pairs | PhotographFiles]]] = []
    missing = []
    for settings, wanted in zip(data.train, prints, strict=False):
        copies, other = _copies(settings, data.root, wanted, here)
        if copies:
            opened.append((settings, copies))
        elif other and wanted:
            changed.append(f"{other} does not hold the {wanted['pictures']} pictures of the training any more")
        else:
            missing.append(f"{settings.dataset} {settings.root}".strip())
    if missing:
        unknown.append(f"of the training's sources these are not found: {', '.join(dict.fromkeys(missing))}")
    if not opened or (len(opened) < len(data.train) and data.held_out):
        return set()  # what was set aside depends on all sources together
    found = dataclasses.replace(data, train=tuple(settings for settings, _ in opened))
    try:
        _, kept = hold_out([first for _, (first, *_) in opened], found)
    except DataError as error:
        unknown.append(str(error))
        return set()
    return {copy.scene(index) for number, index in kept for copy in opened[number][1]}


def _copies(
    settings: SourceConfig, root: str, wanted: Fingerprint, here: DataConfig
) -> tuple[list[Pairs | PhotographFiles], str]:
    """A training's source wherever it is found; and its place, where the evaluation reads it and it has changed.

    Without a fingerprint a set in another place is known by being a published one.
    """
    kind = (settings.dataset, settings.split, settings.reader)
    places = [(settings, root)]
    for other in (*here.train, here.test):
        if (other.dataset, other.split, other.reader) == kind and (wanted or other.dataset in PUBLISHED):
            places.append((other, here.root))
    read = {as_absolute(place_of(other, here.root)) for other in here.train}
    found: dict[object, Pairs | PhotographFiles] = {}
    changed = ""
    for other, base in places:
        place = as_absolute(place_of(other, base))
        if place in found:
            continue
        try:
            source = open_photographs(other, base)
            fits = wanted is None or fingerprint(source) == wanted
        except (DataError, ImageError, OSError):
            continue
        if fits:
            found[place] = source
        elif other is settings and place in read:
            changed = str(place_of(other, base))
    return list(found.values()), changed


def _advice(trained: DataConfig, here: DataConfig) -> str:
    kinds = [[(one.dataset, one.split, one.reader) for one in data.train] for data in (trained, here)]
    if kinds[0] != kinds[1]:
        return "take the config that it was trained with"
    changes = [change for change in changed_fields(here, trained) if change.name.endswith(("held_out", "exclude"))]
    if not changes:
        return "choose pictures that it was not trained on"
    return f"score what it set aside: {' '.join(change.override('config.data.') for change in changes)}"
