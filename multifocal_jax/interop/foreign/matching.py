"""Matches tensors of another code base with ours by shape, by the words in their names, and by order.

Shape alone is not enough: some 150 of the 1×1 kernels of the default network share one. So names are searched for what
they say about a convolution (query, key or value; spatial or channel; which module; which level), every pair of theirs
and ours with the same shape is scored by the agreement, and the assignment with the highest total score is chosen. A
pair is certain if every other assignment scores lower. If several have the same score, the order in the file decides,
and the pair is called ambiguous.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from multifocal_jax.config import ModelConfig
from multifocal_jax.interop.architecture import Shapes
from multifocal_jax.interop.foreign.vocabulary import describe_names, features_of
from multifocal_jax.interop.names import Convolution, as_kernel, convolutions

_ORDER_WEIGHT = 1e-9  # far below one feature's weight


@dataclass(frozen=True)
class Match:
    """One of our convolutions with the matching one of theirs."""

    ours: Convolution
    theirs: str  # name, without `.weight`
    certain: bool  # no other assignment agrees as well with shapes and names


@dataclass(frozen=True)
class Alignment:
    """All our convolutions in order with theirs, and their unmatched tensors."""

    model: ModelConfig
    matches: tuple[Match, ...]
    left_over: tuple[str, ...]  # tensors of theirs that belong to no convolution
    spare: tuple[str, ...] = ()  # tensors of theirs whose shape we do not have; a names file drops them


def group_convolutions(shapes: Shapes) -> tuple[dict[str, tuple[int, ...]], tuple[str, ...]]:
    """Their convolutions (name without `.weight`, shape of the kernel) and the tensors that belong to none."""
    convs = {name.removesuffix(".weight"): tuple(shape) for name, shape in shapes.items() if len(shape) == 4}
    taken = {f"{stem}.{leaf}" for stem in convs for leaf in ("weight", "bias")}
    return convs, tuple(name for name in shapes if name not in taken and name not in convs)


def align(shapes: Shapes, model: ModelConfig, spare: Collection[str] = ()) -> Alignment:
    """Match their convolutions to ours by the shapes of their tensors, in the order of the file; `spare` fit none."""
    ours = {conv: features_of(conv.flax) for conv in convolutions(model)}
    needed = {conv.torch_shape for conv in ours}
    views = {name: as_kernel(shape) for name, shape in shapes.items() if name not in spare}
    convs, left_over = group_convolutions(
        {name: view if view in needed else shapes[name] for name, view in views.items()}
    )
    described = describe_names(list(convs), model)
    _drop_chance_words(described, convs, ours)
    found: dict[Convolution, Match] = {}
    for shape in dict.fromkeys(conv.torch_shape for conv in ours):
        mine = [conv for conv in ours if conv.torch_shape == shape]
        theirs = [name for name, other in convs.items() if other == shape]
        score = np.array([[_score(described[name], ours[conv]) for conv in mine] for name in theirs])
        for row, column, certain in _assign(score.reshape(len(theirs), len(mine))):
            found[mine[column]] = Match(mine[column], theirs[row], certain)
    return Alignment(model, tuple(found[conv] for conv in ours if conv in found), left_over, tuple(spare))


def _drop_chance_words(
    described: Mapping[str, dict[str, Any]], convs: Shapes, ours: Mapping[Convolution, Mapping[str, Any]]
) -> None:
    """Discard meanings that names do not have consistently: in scrambled names words occur by chance."""
    projections = {conv.torch_shape for conv, features in ours.items() if "role" in features}
    for name, features in described.items():
        if convs[name] not in projections:
            features.pop("role", None)
    for feature in ("role", "kind", "level", "module"):
        wanted, found = (
            Counter(features[feature] for features in side if feature in features)
            for side in (ours.values(), described.values())
        )
        # Each role as often as we have it; the others at least for half of what we have.
        chance = {value for value in found if found[value] < wanted[value] / 2}
        if (feature == "role" and found != wanted) or (feature in ("level", "module") and chance):
            chance = set(found)
        for features in described.values():
            if features.get(feature) in chance:
                del features[feature]


def _assign(score: np.ndarray) -> Iterator[tuple[int, int, bool]]:
    """The best assignment of rows to columns: row, column, whether it is the only best."""
    from scipy.optimize import linear_sum_assignment

    # Among equal scores, order: matching sorted positions has the least sum of squares.
    rank = np.arange(score.shape[0])[:, None] - np.arange(score.shape[1])[None, :]
    rows, columns = linear_sum_assignment(score - _ORDER_WEIGHT * rank**2, maximize=True)
    best = score[rows, columns].sum()
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        other = score.copy()
        other[row, column] = score.min() - 1e6  # forbidden
        yield row, column, bool(other[linear_sum_assignment(other, maximize=True)].sum() < best - 0.5)


def _score(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> float:
    """Agreement of what is known of both: one for each feature that agrees, minus two for each that does not."""
    return float(sum(1 if theirs[name] == ours[name] else -2 for name in theirs.keys() & ours.keys()))


def report(alignment: Alignment, shapes: Shapes) -> str:
    """A table of our names and theirs in our order, and what is left over."""
    rows = [("ours", "out×in×k×k", "theirs", "")]
    for match in alignment.matches:
        shape = "×".join(map(str, match.ours.torch_shape))
        rows.append((match.ours.flax, shape, match.theirs, "" if match.certain else "ambiguous"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    count, certain = len(alignment.matches), sum(match.certain for match in alignment.matches)
    lines.append(f"{certain} certain, {count - certain} ambiguous, of {count} convolutions")
    if without := [*alignment.left_over, *alignment.spare]:
        lines.append("no place for: " + ", ".join(f"{name} {shapes[name]}" for name in without))
    return "\n".join(lines)
