"""Which tensor of another code base is which of ours, judged by shape, by what names say, and by order.

Shape alone cannot tell: some 150 of the 1×1 kernels of the default network share one. So names are read for what they
say about a convolution (query, key or value; spatial or channel; which module; which level), every pair of theirs and
ours of one shape is scored by how far that agrees, and the assignment of highest total score is taken. A pair is
certain where every other assignment scores lower. Where several score the same the order in the file decides, and the
pair is called ambiguous.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from multifocal_jax.config import ModelConfig
from multifocal_jax.interop.architecture import Shapes
from multifocal_jax.interop.names import Convolution, convolutions

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

_ORDER_WEIGHT = 1e-9  # far below one feature's weight


@dataclass(frozen=True)
class Match:
    """One of our convolutions with the one of theirs that is taken for it.

    Attributes:
        ours: our convolution.
        theirs: name of theirs, without `.weight`.
        certain: no other assignment agrees as well with shapes and names.
        alternatives: others of theirs that agree as well, where not certain.
    """

    ours: Convolution
    theirs: str
    certain: bool
    alternatives: tuple[str, ...] = ()


@dataclass(frozen=True)
class Alignment:
    """All our convolutions in their order with theirs, and their tensors that have no place.

    Attributes:
        model: the architecture.
        matches: one for each convolution.
        left_over: tensors of theirs that belong to no convolution.
        spare: tensors of theirs whose shape we do not have; a names file drops them.
    """

    model: ModelConfig
    matches: tuple[Match, ...]
    left_over: tuple[str, ...]
    spare: tuple[str, ...] = ()


def group_convolutions(shapes: Shapes) -> tuple[dict[str, tuple[int, ...]], tuple[str, ...]]:
    """Their convolutions (name without `.weight`, shape of the kernel) and the tensors that belong to none."""
    convs = {name.removesuffix(".weight"): shape for name, shape in shapes.items() if len(shape) == 4}
    taken = {f"{stem}.{leaf}" for stem in convs for leaf in ("weight", "bias")}
    return convs, tuple(name for name in shapes if name not in taken and name not in convs)


def align(shapes: Shapes, model: ModelConfig) -> Alignment:
    """Match their convolutions to ours.

    Args:
        shapes: of their tensors by name, in the order of the file, with the same shapes as ours in some order.
        model: the architecture.
    """
    convs, left_over = group_convolutions(shapes)
    ours = convolutions(model)
    described = describe_names(list(convs), model)
    _drop_chance_words(described, convs, ours)
    position = {name: index for index, name in enumerate(convs)}
    found: dict[str, Match] = {}
    for shape in dict.fromkeys(conv.torch_shape for conv in ours):
        mine = [conv for conv in ours if conv.torch_shape == shape]
        theirs = [name for name, other in convs.items() if tuple(other) == shape]
        theirs.sort(key=position.__getitem__)
        score = np.array([[_score(described[name], _features(conv.flax)) for conv in mine] for name in theirs])
        for row, column, certain, others in _assign(score.reshape(len(theirs), len(mine))):
            alternatives = tuple(theirs[other] for other in others)
            found[mine[column].flax] = Match(mine[column], theirs[row], certain, alternatives)
    return Alignment(model, tuple(found[conv.flax] for conv in ours if conv.flax in found), left_over)


def _drop_chance_words(described: Mapping[str, dict[str, Any]], convs: Shapes, ours: Sequence[Convolution]) -> None:
    """Forget what names seem to say but do not say throughout: in scrambled names words turn up by chance."""
    mine = [_features(conv.flax) for conv in ours]
    projections = {conv.torch_shape for conv in ours if "role" in _features(conv.flax)}
    for name, features in described.items():
        if tuple(convs[name]) not in projections:
            features.pop("role", None)
    for feature in ("role", "kind", "level", "module"):
        wanted = Counter(features[feature] for features in mine if feature in features)
        found = Counter(features[feature] for features in described.values() if feature in features)
        # Each role as often as we have it; the others at least for half of what we have.
        chance = {value for value in found if found[value] < wanted[value] / 2}
        if (feature == "role" and found != wanted) or (feature in ("level", "module") and chance):
            chance = set(found)
        for features in described.values():
            if features.get(feature) in chance:
                del features[feature]


def _assign(score: np.ndarray) -> Iterable[tuple[int, int, bool, list[int]]]:
    """Best assignment of rows to columns: row, column, whether it is the only best, rows that would do as well."""
    from scipy.optimize import linear_sum_assignment

    # Among equal scores, order: matching sorted positions has the least sum of squares.
    rank = np.arange(score.shape[0])[:, None] - np.arange(score.shape[1])[None, :]
    rows, columns = linear_sum_assignment(score - _ORDER_WEIGHT * rank**2, maximize=True)
    best = score[rows, columns].sum()
    at = dict(zip(columns.tolist(), rows.tolist(), strict=True))
    forbidden = score.min(initial=0) - 1e6
    for column, row in at.items():
        other = score.copy()
        other[row, column] = forbidden
        again = linear_sum_assignment(other, maximize=True)
        certain = bool(other[again].sum() < best - 0.5)
        alike = [  # those with which it may change places at no loss
            r
            for c, r in at.items()
            if r != row and score[r, column] + score[row, c] >= score[row, column] + score[r, c] - 0.5
        ]
        yield row, column, certain, [] if certain else alike


Features = Mapping[str, Any]


def _score(theirs: Features, ours: Features) -> float:
    """Agreement of what is known of both: one for each feature that agrees, minus two for each that does not."""
    known = [name for name in theirs if name in ours]
    return float(sum(1 if theirs[name] == ours[name] else -2 for name in known))


def _features(flax: str) -> dict[str, Any]:
    """What one of our names says."""
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
    """What each of their names says: stage, kind, role, module, level, as far as it does."""
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
    """Meaning of single words, given all words that the names use."""

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


def report(alignment: Alignment, shapes: Shapes) -> str:
    """A table of ours beside theirs in our order, and what is left over."""
    rows = [
        (
            match.ours.flax,
            "×".join(map(str, match.ours.torch_shape)),
            match.theirs,
            "" if match.certain else "ambiguous",
        )
        for match in alignment.matches
    ]
    head = ("ours", "out×in×k×k", "theirs", "")
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(3)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)) for row in [head, *rows]
    ]
    certain = sum(match.certain for match in alignment.matches)
    lines.append(f"{certain} certain, {len(rows) - certain} ambiguous, of {len(rows)} convolutions")
    if without := [*alignment.left_over, *alignment.spare]:
        lines.append("no place for: " + ", ".join(f"{name} {shapes[name]}" for name in without))
    return "\n".join(line.rstrip() for line in lines)


def names_file(alignment: Alignment, source: str) -> str:
    """A file for `--names`: certain entries as patterns where they follow one, ambiguous ones line by line."""
    certain = [(match.theirs, match.ours.flax) for match in alignment.matches if match.certain]
    unclear = [match for match in alignment.matches if not match.certain]
    lines = [f"# Names of {source} and ours."]
    lines += [f"{theirs} = {ours}" for theirs, ours in generalise(certain)]
    if unclear:
        lines += ["", "# Ambiguous: shapes and names leave these open; the order in the file was followed."]
        lines += [f"{match.theirs} = {match.ours.flax}  # ambiguous" for match in unclear]
    if alignment.spare:
        lines += ["", "# Of no use to this network: dropped.", *(f"{name} = -" for name in alignment.spare)]
    return "\n".join(lines) + "\n"


def generalise(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Fold pairs of names that differ in numbers only into patterns (see `renaming`); the others stay as they are."""
    families: dict[tuple[tuple[str, ...], tuple[str, ...]], list[tuple[list[int], list[int]]]] = defaultdict(list)
    for theirs, ours in pairs:
        a, b = re.split(r"(\d+)", theirs), re.split(r"(\d+)", ours)
        families[tuple(a[::2]), tuple(b[::2])].append(([int(n) for n in a[1::2]], [int(n) for n in b[1::2]]))
    found = []
    for (texts_a, texts_b), numbers in families.items():
        pattern = _pattern(texts_a, texts_b, numbers) if len(numbers) > 1 else None
        found += [pattern] if pattern else [(_join(texts_a, a), _join(texts_b, b)) for a, b in numbers]
    return found


def _pattern(
    texts_a: Sequence[str], texts_b: Sequence[str], numbers: Sequence[tuple[list[int], list[int]]]
) -> tuple[str, str] | None:
    """One pattern for a family of pairs, None where numbers on one side do not follow from those on the other."""
    theirs: list[Any] = list(numbers[0][0])
    ours: list[Any] = list(numbers[0][1])
    letters = iter("nopqrstuvw")
    varying = [slot for slot in range(len(theirs)) if len({a[slot] for a, _ in numbers}) > 1]
    for target in range(len(ours)):
        if len({b[target] for _, b in numbers}) == 1:
            continue
        options = [slot for slot in varying if isinstance(theirs[slot], int)]
        for slot in options:
            offsets = Counter(a[slot] - b[target] for a, b in numbers)
            power = all(a[slot] == 2 ** b[target] for a, b in numbers)
            if len(offsets) == 1 or power:
                before = texts_b[target]
                letter = "m" if before.endswith("module_") else "l" if "l" not in str(ours) else next(letters)
                offset = next(iter(offsets))
                theirs[slot] = f"{{{letter}^2}}" if power and len(offsets) > 1 else f"{{{letter}{offset:+d}}}"
                theirs[slot] = theirs[slot].replace("+0}", "}")
                ours[target] = f"{{{letter}}}"
                break
        else:
            return None
    if any(isinstance(theirs[slot], int) for slot in varying):
        return None
    return _join(texts_a, theirs), _join(texts_b, ours)


def _join(texts: Sequence[str], numbers: Sequence[Any]) -> str:
    """Texts with numbers or placeholders between them."""
    return "".join(text + str(number) for text, number in zip(texts, [*numbers, ""], strict=True))
