"""Which pictures are held out for validation, and which are trained on."""

import contextlib
import hashlib
import itertools
from collections.abc import Sequence
from typing import Any

from multifocal_jax.config import DataConfig, SourceConfig
from multifocal_jax.data.errors import DataError, ImageError
from multifocal_jax.data.sources import IDENTITY, Photographs
from multifocal_jax.files import encode

_PRINTED = 64  # pictures of a source that its fingerprint covers


def hold_out(sources: list[Photographs], config: DataConfig) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Hold out pictures, evenly spaced over the sorted names: over all sources in order, and within single sources.

    Returns:
        The pictures held out and those to train on, as (source, index). Pictures that share the background of a
        held-out one (other rain over the same clean picture, in any source) are in neither, nor are excluded ones.

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
    seen = _same_background(chosen, sources)
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


def _same_background(chosen: set[tuple[int, int]], sources: Sequence[Photographs]) -> set[tuple[int, int]]:
    """Pictures of all sources that share a background with one of `chosen`, including these.

    Files are compared by their resolved paths. Prepared sets store only names, which are compared within a set, and
    between neighbours.
    """
    held_out = {scene for number, index in chosen for scene in sources[number].alike(index)}
    if not held_out:
        return set()
    entries = ((number, index) for number, source in enumerate(sources) for index in range(len(source)))
    return {(number, index) for number, index in entries if sources[number].scene(index) in held_out}


def fingerprint(source: Photographs) -> dict[str, Any]:
    """Identify a source independently of its place: the number of its pictures and a hash of some of them.

    The hash covers name and size of the clean file of up to 64 evenly spaced pictures, so it is quick for large sets
    and in buckets. With the same names in this order, `hold_out` holds out the same pictures.
    """
    count = len(source)
    digest = hashlib.sha256()
    for index in (place * count // min(count, _PRINTED) for place in range(min(count, _PRINTED))):
        with contextlib.suppress(ImageError, OSError):  # training says so, or passes it over
            digest.update(encode(f"{source.name(index)} {source.weight(index)}\n"))
    return {"pictures": count, "sha256": digest.hexdigest()}


def _indices(source: Photographs, settings: SourceConfig, field: str) -> set[int]:
    """Indices of the pictures that a source excludes by name."""
    if not settings.exclude:
        return set()
    places = {source.name(index): index for index in range(len(source))}
    if unknown := [name for name in settings.exclude if name not in places]:
        raise DataError(f"{field} names pictures that {settings.dataset} does not have: {', '.join(unknown)}")
    return {places[name] for name in settings.exclude}
