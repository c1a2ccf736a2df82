"""Interprets names of convolutions: stage, kind, role, module and level, in our code base and in others."""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from multifocal_jax.config import ModelConfig

_ROLES = {
    "query": ("q", "query", "queries", "theta"),
    "key": ("k", "key", "keys", "phi"),
    "value": ("v", "value", "values", "val"),
}
_AFFIXES = ("{}", "w{}", "to{}", "f{}", "conv{}", "{}conv", "proj{}", "{}proj", "linear{}", "{}c")
_WORDS = {
    "kind": {
        "spatial": r"spat.*|spa|sa|ssa|sab|scssab|space|pixel|position|pam|.*nonlocal|nl|wavelet|frcb|s?attn?spatial",
        "channel": r"chan.*|ca|cca|cab|ccssab|chn?l?|cam|.*channel",
        "down": r"down.*|ds|shrink|strided?",
        "up": r"up.*|us|.*shuffle|subpixel|expand",
        "residual": r"res.*|rb|rbs",
    },
    "stage": {
        "entrance": r"entr.*|stem|init.*|intro|coarse|enter|pre",
        "body": r"body|blocks?|modules?|stages?|trunk|abms?|basic.*|layers?|units?",
    },
    "place": {
        "first": r"large|fine|full|big|high|top",
        "middle": r"mid|middle|medium",
        "last": r"small|low|bottom|tiny",
    },
}
_MODULE_HINTS = re.compile(_WORDS["stage"]["body"])
_LEVEL_HINTS = re.compile(r"levels?|lvl|scales?|pyr.*|branch.*|sub.*|s|x|resolution")
_NUMBER_WORDS = {word: n for n, word in enumerate(("zero", "one", "two", "three", "four", "five", "six"))}
_NUMBER_WORDS |= {word: n for n, word in enumerate(("first", "second", "third", "fourth", "fifth", "sixth"), start=1)}


def features_of(flax: str) -> dict[str, Any]:
    """The meaning of one of our names."""
    if flax.startswith("fusion"):
        return {"stage": "fusion"}
    features: dict[str, Any] = {"stage": "body" if flax.startswith("module_") else "entrance"}
    if found := re.match(r"module_(\d+)", flax):
        features["module"] = int(found[1])
    if found := re.search(r"(?:level|shallow|down|up|reduce|residual_\d+[ab])_(\d+)", flax):
        features["level"] = int(found[1]) - flax.startswith("entrance.pyramid")
    if found := re.search(r"\.residual_(\d+)([ab])", flax):
        features |= {"block": int(found[1]), "half": "ab".index(found[2]), "kind": "residual"}
    if found := re.search(r"\b(spatial|channel)\b", flax) or re.search(r"\.(down|up)_", flax):
        features["kind"] = found[1]
    if found := re.search(r"\.(query|key|value)$", flax):
        features["role"] = found[1]
    return features


def tokens(name: str) -> list[str | int]:
    """Words and numbers of a name: `blocks.3.toQ_2x` → blocks, 3, to, q, 2, x."""
    split = re.sub(r"([a-z])([A-Z])", r"\1.\2", name)
    split = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1.\2", split)
    words = re.findall(r"\d+|[a-z]+", split.lower())
    found: list[str | int] = []
    for before, word in itertools.pairwise(["", *words]):
        if word.isdigit():
            found.append(int(word))
        elif word in ("a", "b") and before.isdigit():
            found.append("ab".index(word))
        else:
            found.append(_NUMBER_WORDS.get(word, word))
    return found


def describe_names(names: Sequence[str], model: ModelConfig) -> dict[str, dict[str, Any]]:
    """The meaning of each of their names: stage, kind, role, module, level, as far as known."""
    split = {name: tokens(name) for name in names}
    known = _known_words({token for found in split.values() for token in found if isinstance(token, str)}, model.levels)
    families: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for name, found in split.items():
        families[tuple("#" if isinstance(token, int) else token for token in found)].append(name)
    described: dict[str, dict[str, Any]] = {}
    for name, found in split.items():
        described[name] = {feature: value for token in found for feature, value in known.get(token, {}).items()}
        if "role" in described[name] and described[name].get("kind") not in ("spatial", "channel"):
            described[name].pop("kind", None)  # queries inside something called "up…" are still queries
    for template, members in families.items():
        numbers = {name: [token for token in split[name] if isinstance(token, int)] for name in members}
        for feature, values in _read_numbers(template, numbers, model):
            for name, value in values.items():
                described[name].setdefault(feature, value)
    # A name that counts modules is in the body; one that does not, where others of its role do, is not.
    counting = model.modules > 1 and any("module" in features for features in described.values())
    for features in described.values():
        if "module" in features:
            features["stage"] = "body"
        elif counting:
            features.setdefault("stage", "entrance")
    return described


def _known_words(vocabulary: set[str], levels: int) -> dict[str | int, dict[str, Any]]:
    """The meaning of single words, given all words that the names use."""
    roles = {affix.format(stem): role for role, stems in _ROLES.items() for stem in stems for affix in _AFFIXES}
    if vocabulary & {"theta", "phi"}:  # the names of the non-local block: theta, phi, g
        roles["g"] = "value"
    places = {"first": 0, "middle": 1 if levels == 3 else None, "last": levels - 1}
    letters = {"l": 0, "m": 1, "s": 2} if {"l", "m", "s"} <= vocabulary and levels == 3 else {}
    known: dict[str | int, dict[str, Any]] = {}
    for word in vocabulary:
        meaning: dict[str, Any] = {"role": roles[word]} if word in roles else {}
        for feature, patterns in _WORDS.items():
            for value, pattern in patterns.items():
                if re.fullmatch(pattern, word):
                    meaning[feature] = value
        level = letters.get(word, places.get(meaning.pop("place", "")))
        known[word] = meaning if level is None else meaning | {"level": level}
    return known


def _read_numbers(
    template: tuple[Any, ...], numbers: Mapping[str, Sequence[int]], model: ModelConfig
) -> Iterator[tuple[str, dict[str, int]]]:
    """Which number of a family of names counts modules and which levels; values are ranks, so any first index does."""
    places = [index for index, token in enumerate(template) if token == "#"]
    hints = ["" if place == 0 else str(template[place - 1]) for place in places]
    columns = [sorted({found[slot] for found in numbers.values()}) for slot in range(len(places))]
    sizes, levels = [len(column) for column in columns], model.levels

    def pick(count: int, hint: re.Pattern[str], taken: int | None = None) -> int | None:
        fitting = [slot for slot, size in enumerate(sizes) if size == count > 1 and slot != taken]
        chosen = [slot for slot in fitting if hint.fullmatch(hints[slot])] or fitting
        return chosen[0] if len(chosen) == 1 else None

    def read(feature: str, slot: int) -> tuple[str, dict[str, int]]:
        return feature, {name: columns[slot].index(found[slot]) for name, found in numbers.items()}

    modules = pick(model.modules, _MODULE_HINTS)
    if modules is not None and model.modules == levels and not _MODULE_HINTS.fullmatch(hints[modules]):
        modules = None  # as many modules as levels, and nothing says that this number counts modules
    level = pick(levels, _LEVEL_HINTS, modules)
    if modules is None and model.modules == levels and level is not None:
        modules = pick(model.modules, _MODULE_HINTS, level)
    if modules is not None:
        yield read("module", modules)
    if level is not None:
        yield read("level", level)
    elif model.pyramid == "learned" and len(numbers) == levels - 1 > 1 and sizes.count(levels - 1) == 1:
        yield read("level", sizes.index(levels - 1))  # the filters of the pyramid
    if model.residual_blocks:
        rest = [slot for slot, size in enumerate(sizes) if size > 1 and slot not in (modules, level)]
        if halves := [slot for slot in rest if sizes[slot] == 2]:
            yield read("half", halves[-1])
            rest.remove(halves[-1])
        if len(rest) == 1 and sizes[rest[0]] == model.residual_blocks:
            yield read("block", rest[0])
