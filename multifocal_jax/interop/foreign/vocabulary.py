"""Interprets names of convolutions: stage, kind, role, module and level, in our code base and in others."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from multifocal_jax.config import ModelConfig

_ROLES = {
    "query": ("query", "queries", "theta"),
    "key": ("key", "keys", "phi"),
    "value": ("value", "values", "val"),
}
_AFFIXES = ("{}", "w{}", "to{}", "f{}", "conv{}", "{}conv", "proj{}", "{}proj", "linear{}", "{}c")
_KINDS = {
    "spatial": r"spat.*|spa|sa|ssa|sab|scssab|space|pixel|position|pam|.*nonlocal|nl|wavelet|frcb|s?attn?spatial",
    "channel": r"chan.*|ca|cca|cab|ccssab|chn?l?|cam|.*channel",
    "down": r"down.*|ds|shrink|strided?",
    "up": r"up.*|us|.*shuffle|subpixel|expand",
    "residual": r"res.*|rb|rbs",
}
_STAGES = {
    "entrance": r"entr.*|stem|init.*|intro|coarse|enter|pre",
    "body": r"body|blocks?|modules?|stages?|trunk|abms?|basic.*|layers?|units?",
}
_LEVELS = {"first": r"large|fine|full|big|high|top", "middle": r"mid|middle|medium", "last": r"small|low|bottom|tiny"}
_MODULE_HINTS = re.compile(_STAGES["body"])
_LEVEL_HINTS = re.compile(r"levels?|lvl|scales?|pyr.*|branch.*|sub.*|s|x|resolution")
_NUMBER_WORDS = {word: n for n, word in enumerate(("zero", "one", "two", "three", "four", "five", "six"))}
_NUMBER_WORDS |= {word: n for n, word in enumerate(("first", "second", "third", "fourth", "fifth", "sixth"), start=1)}


def features_of(flax: str) -> dict[str, Any]:
    """The meaning of one of our names."""
    features: dict[str, Any] = {"stage": "body" if flax.startswith("module_") else "entrance"}
    if flax.startswith("fusion"):
        return {"stage": "fusion"}
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
    words = re.findall(r"\d+|[A-Za-z]+", split)
    found: list[str | int] = []
    for index, word in enumerate(words):
        lower = word.lower()
        after_number = index > 0 and words[index - 1].isdigit()
        if word.isdigit():
            found.append(int(word))
        elif lower in _NUMBER_WORDS:
            found.append(_NUMBER_WORDS[lower])
        elif after_number and lower in ("a", "b"):
            found.append("ab".index(lower))
        else:
            found.append(lower)
    return found


def describe_names(names: Sequence[str], model: ModelConfig) -> dict[str, dict[str, Any]]:
    """The meaning of each of their names: stage, kind, role, module, level, as far as known."""
    split = {name: tokens(name) for name in names}
    vocabulary = {token for found in split.values() for token in found if isinstance(token, str)}
    words = _Words(vocabulary, model.levels)
    families: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for name, found in split.items():
        families[tuple("#" if isinstance(token, int) else token for token in found)].append(name)
    described = {name: words.features(split[name]) for name in names}
    for template, members in families.items():
        numbers = {name: [token for token in split[name] if isinstance(token, int)] for name in members}
        for feature, values in _read_numbers(template, numbers, model).items():
            for name, value in values.items():
                described[name].setdefault(feature, value)
    _add_stages(described, model)
    return described


class _Words:
    """The meaning of single words, given all words that the names use."""

    def __init__(self, vocabulary: set[str], levels: int) -> None:
        self.levels = levels
        self.roles: dict[str, str] = {}
        for role, names in _ROLES.items():
            initial = role[0]
            stems = (*names, initial)
            self.roles |= {affix.format(stem): role for stem in stems for affix in _AFFIXES}
        if vocabulary & {"theta", "phi"}:  # the names of the non-local block: theta, phi, g
            self.roles["g"] = "value"
        self.letters = {"l": 0, "m": 1, "s": levels - 1} if {"l", "m", "s"} <= vocabulary and levels == 3 else {}

    def features(self, found: Sequence[str | int]) -> dict[str, Any]:
        features: dict[str, Any] = {}
        for token in found:
            if not isinstance(token, str):
                continue
            if token in self.roles:
                features["role"] = self.roles[token]
            for kind, pattern in _KINDS.items():
                if re.fullmatch(pattern, token):
                    features["kind"] = kind
            for stage, pattern in _STAGES.items():
                if re.fullmatch(pattern, token):
                    features["stage"] = stage
            if token in self.letters:
                features["level"] = self.letters[token]
            for place, pattern in _LEVELS.items():
                if re.fullmatch(pattern, token) and (place != "middle" or self.levels == 3):
                    features["level"] = {"first": 0, "middle": 1, "last": self.levels - 1}[place]
        if "role" in features and features.get("kind") not in ("spatial", "channel"):
            features.pop("kind", None)  # queries inside something called "up…" are still queries
        return features


def _read_numbers(
    template: tuple[Any, ...], numbers: Mapping[str, Sequence[int]], model: ModelConfig
) -> dict[str, dict[str, int]]:
    """Which number of a family of names counts modules and which levels; values are ranks, so any first index does."""
    places = [index for index, token in enumerate(template) if token == "#"]
    ranks: list[dict[int, int]] = []
    for slot in range(len(places)):
        values = sorted({found[slot] for found in numbers.values()})
        ranks.append({value: rank for rank, value in enumerate(values)})
    sizes = [len(rank) for rank in ranks]
    hints = ["" if place == 0 else str(template[place - 1]) for place in places]

    def pick(count: int, hint: re.Pattern[str], taken: set[int]) -> int | None:
        fitting = [slot for slot, size in enumerate(sizes) if size == count > 1 and slot not in taken]
        hinted = [slot for slot in fitting if hint.fullmatch(hints[slot])]
        chosen = hinted or fitting
        return chosen[0] if len(chosen) == 1 else None

    def read(slot: int) -> dict[str, int]:
        return {name: ranks[slot][found[slot]] for name, found in numbers.items()}

    levels = model.levels
    modules = pick(model.modules, _MODULE_HINTS, set())
    if modules is not None and model.modules == levels and not _MODULE_HINTS.fullmatch(hints[modules]):
        modules = None  # as many modules as levels, and nothing says that this number counts modules
    level = pick(levels, _LEVEL_HINTS, set() if modules is None else {modules})
    if modules is None and model.modules == levels and level is not None:
        modules = pick(model.modules, _MODULE_HINTS, {level})
    found: dict[str, dict[str, int]] = {}
    if modules is not None:
        found["module"] = read(modules)
    if level is not None:
        found["level"] = read(level)
    if (
        "level" not in found
        and model.pyramid == "learned"
        and len(numbers) == levels - 1 > 1
        and sizes.count(levels - 1) == 1
    ):
        found["level"] = read(sizes.index(levels - 1))  # the filters of the pyramid
    if model.residual_blocks:
        rest = [slot for slot, size in enumerate(sizes) if size > 1 and slot not in (modules, level)]
        halves = [slot for slot in rest if sizes[slot] == 2]
        if halves:
            found["half"] = read(halves[-1])
            rest.remove(halves[-1])
        if len(rest) == 1 and sizes[rest[0]] == model.residual_blocks:
            found["block"] = read(rest[0])
    return found


def _add_stages(described: Mapping[str, dict[str, Any]], model: ModelConfig) -> None:
    """A name that counts modules is in the body; one that does not, where others of its role do, is not."""
    counting = any("module" in features for features in described.values())
    for features in described.values():
        if "module" in features:
            features["stage"] = "body"
        elif counting and model.modules > 1:
            features.setdefault("stage", "entrance")
