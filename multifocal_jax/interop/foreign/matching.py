"""Matches tensors of another code base with ours by shape, by the words in their names, and by order.

Shape alone is not enough: some 150 of the 1×1 kernels of the default network share one. So names are searched for what
they say about a convolution (query, key or value; spatial or channel; which module; which level), every pair of theirs
and ours with the same shape is scored by the agreement, and the assignment with the highest total score is chosen. A
pair is certain if every other assignment scores lower. If several have the same score, the order in the file decides,
and the pair is called ambiguous.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from multifocal_jax.config import ModelConfig
from multifocal_jax.interop.architecture import Shapes
from multifocal_jax.interop.foreign.vocabulary import describe_names, features_of
from multifocal_jax.interop.names import Convolution, convolutions

_ORDER_WEIGHT = 1e-9  # far below one feature's weight


@dataclass(frozen=True)
class Match:
    """One of our convolutions with the matching one of theirs.

    Attributes:
        ours: our convolution.
        theirs: name of theirs, without `.weight`.
        certain: no other assignment agrees as well with shapes and names.
        alternatives: others of theirs that agree equally well, if not certain.
    """

    ours: Convolution
    theirs: str
    certain: bool
    alternatives: tuple[str, ...] = ()


@dataclass(frozen=True)
class Alignment:
    """All our convolutions in order with theirs, and their unmatched tensors.

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
        score = np.array([[_score(described[name], features_of(conv.flax)) for conv in mine] for name in theirs])
        for row, column, certain, others in _assign(score.reshape(len(theirs), len(mine))):
            alternatives = tuple(theirs[other] for other in others)
            found[mine[column].flax] = Match(mine[column], theirs[row], certain, alternatives)
    return Alignment(model, tuple(found[conv.flax] for conv in ours if conv.flax in found), left_over)


def _drop_chance_words(described: Mapping[str, dict[str, Any]], convs: Shapes, ours: Sequence[Convolution]) -> None:
    """Discard meanings that names do not have consistently: in scrambled names words occur by chance."""
    mine = [features_of(conv.flax) for conv in ours]
    projections = {conv.torch_shape for conv in ours if "role" in features_of(conv.flax)}
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


def _score(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> float:
    """Agreement of what is known of both: one for each feature that agrees, minus two for each that does not."""
    known = [name for name in theirs if name in ours]
    return float(sum(1 if theirs[name] == ours[name] else -2 for name in known))


def report(alignment: Alignment, shapes: Shapes) -> str:
    """A table of our names and theirs in our order, and what is left over."""
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
