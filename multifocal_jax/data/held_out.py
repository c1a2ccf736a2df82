"""Which pictures are set aside for validation, and which are trained on."""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from multifocal_jax.config import DataConfig, SourceConfig
from multifocal_jax.data.errors import DataError
from multifocal_jax.data.prepared import PreparedPairs
from multifocal_jax.data.sources import IDENTITY, Pairs, PhotographFiles
from multifocal_jax.paths import as_absolute


def hold_out(
    sources: list[Pairs | PhotographFiles], config: DataConfig
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Set pictures aside, evenly spaced over the sorted names: of all sources one after the other, and of single ones.

    Returns:
        The pictures held out and those to train on, as (source, index). Pictures with the background of one held out
        (other rain over the same clean picture, in any source) are in neither, nor are those that a source excludes.

    Raises:
        DataError: nothing would be left to train on, or a name to exclude does not exist.
    """
    wanted: list[list[tuple[int, int]]] = []  # of each source, without what it excludes
    for number, (source, settings) in enumerate(zip(sources, config.train, strict=True)):
        excluded = _indices(source, settings, f"data.train.{number}.exclude")
        wanted.append([(number, index) for index in range(len(source)) if index not in excluded])
    # A picture that is paired with itself cannot be scored.
    scored = [entry for entry in itertools.chain(*wanted) if config.train[entry[0]].rain != IDENTITY]
    chosen = set(_evenly(scored, config.held_out, "data.held_out"))
    for number, (entries, settings) in enumerate(zip(wanted, config.train, strict=True)):
        chosen |= set(_evenly(entries, settings.held_out, f"data.train.{number}.held_out"))
    seen = _same_background(chosen, sources, config)
    kept = [entry for entry in itertools.chain(*wanted) if entry not in seen]
    if not kept:
        raise DataError(
            "no training picture is left: each is held out, shares a background with one held out, or is excluded"
        )
    return sorted(chosen), kept


def _evenly(entries: list[tuple[int, int]], count: int, field: str) -> list[tuple[int, int]]:
    if count and count >= len(entries):
        raise DataError(f"{field} is {count}, but there are only {len(entries)} training pictures; hold out fewer")
    return [entries[(place * len(entries)) // count] for place in range(count)]


def _same_background(
    chosen: set[tuple[int, int]], sources: Sequence[Pairs | PhotographFiles], config: DataConfig
) -> set[tuple[int, int]]:
    """Pictures of all sources with the background of one of `chosen`, themselves included.

    Files are told by their paths, however a source spells them. Prepared sets hold names alone, which are compared
    within a set, and between neighbours, as reading every name would read every record.
    """
    prepared = [number for number, source in enumerate(sources) if isinstance(source, PreparedPairs)]
    seen = set()
    for number, index in chosen:
        if number in prepared:
            alike = [other for other in prepared if _set_of(config, other) == _set_of(config, number)]
            seen |= set(itertools.product(alike, _neighbours(sources[number], index)))

    def path(number: int, index: int) -> Path:
        return as_absolute(sources[number].background(index))

    held_out = {path(*entry) for entry in chosen if entry[0] not in prepared}
    if held_out:
        files = [number for number in range(len(sources)) if number not in prepared]
        entries = ((number, index) for number in files for index in range(len(sources[number])))
        seen |= {entry for entry in entries if path(*entry) in held_out}
    return seen


def _neighbours(source: Pairs | PhotographFiles, index: int) -> list[int]:
    """The picture, and those beside it in the order of the names that share its background."""
    background, indices = source.background(index), [index]
    for step in (-1, 1):
        other = index + step
        while 0 <= other < len(source) and source.background(other) == background:
            indices.append(other)
            other += step
    return indices


def _set_of(config: DataConfig, number: int) -> tuple[object, ...]:
    """What decides which pictures of a prepared set a source lists; two that agree list them in the same order."""
    source = config.train[number]
    return source.dataset, as_absolute(os.path.join(config.root, source.root)), source.split


def _indices(source: Pairs | PhotographFiles, settings: SourceConfig, field: str) -> set[int]:
    """Where the names that a source excludes are.

    Raises:
        DataError: there is no picture of such a name.
    """
    if not settings.exclude:
        return set()
    places = {source.name(index): index for index in range(len(source))}
    if unknown := [name for name in settings.exclude if name not in places]:
        raise DataError(f"{field} names pictures that {settings.dataset} does not have: {', '.join(unknown)}")
    return {places[name] for name in settings.exclude}
