"""The scores of a set of pictures, written as text, Markdown, CSV or JSON."""

import csv
import io
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, cast

from multifocal_jax.errors import UserError
from multifocal_jax.evaluation.metrics import FAMILIES, Family, Score
from multifocal_jax.evaluation.perceptual import PERCEPTUAL, PERCEPTUAL_TITLES, Perceptual

Side = Literal["input", "result"]
SIDES: tuple[Side, Side] = ("input", "result")
DERAINER_OPTIONS = ("precision", "tile", "overlap", "ensemble")  # names of `Derainer` that change scores

TITLES: dict[Family | Perceptual, str] = {
    "uint8": "Y, rounded luma, SSIM at full size (`uint8`)",
    "double": "Y, unrounded luma, SSIM down-sampled to about 256 pixels (`double`)",
    "rgb": "RGB (`rgb`)",
    **PERCEPTUAL_TITLES,
}


class ReportError(UserError):
    """A stored report cannot be read."""


@dataclass(frozen=True)
class PictureScores:
    """Scores of one picture.

    Attributes:
        name: of the picture, without suffix.
        width, height: in pixels.
        input: scores of the rainy picture against its ground truth, by family; empty if there is none.
        result: the same for the de-rained picture.
        perceptual: values of the rainy and of the de-rained picture, for each requested metric.
    """

    name: str
    width: int
    height: int
    input: dict[Family, Score]
    result: dict[Family, Score]
    perceptual: dict[Perceptual, tuple[float, float]] = field(default_factory=dict)

    def cells(self, measure: Family | Perceptual) -> list[str]:
        """A family's or metric's values: rainy, de-rained, and the gain (of PSNR in dB; 0 if both are perfect)."""
        if measure in self.perceptual:
            before, after = self.perceptual[measure]
            return [f"{before:.4f}", f"{after:.4f}", f"{before - after:+.4f}"]  # lower is better
        both = self.input[cast(Family, measure)], self.result[cast(Family, measure)]
        gain = 0.0 if both[0].psnr == both[1].psnr else both[1].psnr - both[0].psnr
        return [*(f"{score.psnr:.2f} / {score.ssim:.4f}" for score in both), f"{gain:+.2f}"]


@dataclass(frozen=True)
class Report:
    """Scores of a set of pictures; means are over pictures.

    Attributes:
        pictures: in the order of the set.
        family: of the headline figures.
        record: what was scored: config, weights, options; JSON types.
        trained_on: names of the pictures that the weights were trained on; None if this was not checked.
        unknown: why the weights may have been trained on more of them, in words; empty if all is known.
        left_out: pictures of the set that could not be scored: name and reason.
    """

    pictures: tuple[PictureScores, ...]
    family: Family = "uint8"
    record: dict[str, Any] = field(default_factory=dict)
    trained_on: frozenset[str] | None = None
    unknown: str = ""
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def has_truth(self) -> bool:
        """Whether the pictures were compared with ground truth."""
        return bool(self.pictures and self.pictures[0].result)

    @property
    def families(self) -> tuple[Family, ...]:
        """The families that were measured: all or none."""
        return FAMILIES if self.has_truth else ()

    @property
    def perceptual(self) -> list[Perceptual]:
        """The metrics that were measured in addition to PSNR and SSIM."""
        return [name for name in PERCEPTUAL if all(name in picture.perceptual for picture in self.pictures)]

    @property
    def measured(self) -> list[Family | Perceptual]:
        """The families and the metrics that were measured."""
        return [*self.families, *self.perceptual]

    @cached_property
    def means(self) -> PictureScores:
        """The means of all values."""
        means = PictureScores("mean", 0, 0, {}, {})
        for side, family in itertools.product(SIDES, self.families):
            scores = [getattr(picture, side)[family] for picture in self.pictures]
            mean = Score(fmean(one.psnr for one in scores), fmean(one.ssim for one in scores))
            getattr(means, side)[family] = mean
        for name in self.perceptual:
            first, second = zip(*(picture.perceptual[name] for picture in self.pictures), strict=True)
            means.perceptual[name] = fmean(first), fmean(second)
        return means

    def mean(self, side: Side, family: Family | None = None) -> Score:
        """Mean PSNR and SSIM of the rainy ("input") or the de-rained pictures ("result")."""
        return getattr(self.means, side)[family or self.family]

    def count(self) -> str:
        """Number of pictures in the means, and how many of them the weights were trained on: `20 pictures`."""
        trained_on = f", {len(self.trained_on)} of them trained on" if self.trained_on else ""
        return f"{len(self.pictures)} picture{'s' * (len(self.pictures) != 1)}{trained_on}"

    def title(self, picture: PictureScores) -> str:
        """The picture's name, and whether the weights were trained on it."""
        return picture.name + " (trained on)" * (picture.name in (self.trained_on or ()))

    def facts(self) -> list[tuple[str, str]]:
        """Facts for readers of the scores: the record's values, pictures trained on, pictures left out."""
        facts = [(name, str(value)) for name, value in self.record.items() if isinstance(value, str | int | float)]
        if self.trained_on is not None:
            known = f"{len(self.trained_on)} of {len(self.pictures)} pictures"
            facts.append(("trained on", f"{known}; not certain: {self.unknown}" if self.unknown else known))
        return facts + [("left out", f"{name} ({reason})") for name, reason in self.left_out.items()]

    def worst_first(self) -> list[PictureScores]:
        """Pictures by ascending PSNR of the result; without ground truth by descending NIQE, else as given."""
        if self.has_truth:
            return sorted(self.pictures, key=lambda picture: picture.result[self.family].psnr)
        if "niqe" in self.perceptual:
            return sorted(self.pictures, key=lambda picture: -picture.perceptual["niqe"][1])
        return list(self.pictures)

    def order(self) -> str:
        """The order of `worst_first` in words."""
        return "worst first" if self.has_truth or "niqe" in self.perceptual else "in the order of their names"

    def columns(self) -> list[str]:
        """Headings of the table of pictures, after the name and the size."""
        columns = ["rainy", "de-rained", "gain"] if self.has_truth else []
        return columns + [f"{metric.upper()} {side}" for metric in self.perceptual for side in ("rainy", "de-rained")]

    def cells(self, picture: PictureScores) -> list[str]:
        """A picture's cells for `columns`, PSNR and SSIM in the headline family."""
        cells = picture.cells(self.family) if self.has_truth else []
        return cells + [value for metric in self.perceptual for value in picture.cells(metric)[:2]]

    def to_text(self) -> str:
        """Table for a terminal: one line per picture, then the means of the headline family and of the others."""
        if not self.measured:
            return self._caption()
        pictures = [["", *self.columns()], *([self.title(one), *self.cells(one)] for one in self.pictures)]
        mark = " (trained on)" * bool(self.trained_on)
        headline_first = sorted(self.measured, key=lambda name: name != self.family)
        means = [[f"mean {name}{mark}", *self.means.cells(name)] for name in headline_first]
        means.insert(0, ["", "rainy", "de-rained", "gain"])
        return "\n".join([*_aligned(pictures), "", *_aligned(means), self._caption()])

    def _caption(self) -> str:
        left_out = "".join(f"\nleft out: {name} ({reason})" for name, reason in self.left_out.items())
        if self.has_truth:
            family = f"lines of single pictures are in the family {self.family!r}."
            return f"PSNR in dB / SSIM of {self.count()}; {family}{left_out}"
        end = "." if self.perceptual else "; --metrics niqe measures naturalness."
        return f"{self.count()} without ground truth{end}{left_out}"

    def to_markdown(self) -> str:
        """The means of every family and metric, then a table of the pictures in the headline family."""
        lines = [f"# De-raining: {self.record.get('name', 'evaluation')}", ""]
        lines += [f"- {name}: {value}" for name, value in self.facts()]
        if self.measured:
            titles = {**TITLES, self.family: f"**{TITLES[self.family]}**"}
            means = [[titles[name], *self.means.cells(name)] for name in self.measured]
            lines += ["", f"Means over {self.count()}{', PSNR in dB / SSIM' * self.has_truth}:", ""]
            lines += _markdown([["measured on", "rainy", "de-rained", "gain"], *means])
        else:
            lines += ["", self._caption()]
        on = f", on {TITLES[self.family]}" if self.has_truth else ""
        rows = [["picture", "size", *self.columns()]]
        for picture in self.pictures:
            name = " ".join(self.title(picture).split("\n")).replace("|", "\\|")
            rows.append([name, f"{picture.width}×{picture.height}", *self.cells(picture)])
        return "\n".join([*lines, "", f"Every picture{on}:", "", *_markdown(rows)]) + "\n"

    def to_csv(self) -> str:
        """One line per picture with every family's scores, e.g. `result_uint8_psnr`, and `trained_on` (0 or 1)."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        columns = [(side, family) for family in self.families for side in SIDES]
        scores = [f"{side}_{family}_{measure}" for side, family in columns for measure in ("psnr", "ssim")]
        scores += [f"{side}_{metric}" for metric in self.perceptual for side in SIDES]
        known = self.trained_on is not None
        writer.writerow(["name", "width", "height", *scores, *["trained_on"] * known])
        for picture in self.pictures:
            row: list[Any] = [picture.name, picture.width, picture.height]
            for score in (getattr(picture, side)[family] for side, family in columns):
                row += [f"{score.psnr:.4f}", f"{score.ssim:.6f}"]
            row += [f"{value:.6f}" for metric in self.perceptual for value in picture.perceptual[metric]]
            writer.writerow([*row, *[int(picture.name in (self.trained_on or ()))] * known])
        return text.getvalue()

    def to_json(self) -> str:
        """Everything; an infinite PSNR (equal pictures) is null, as JSON has no infinity."""
        content = {
            "family": self.family,
            "count": len(self.pictures),
            "mean": picture_to_dict(self.means)["scores"],
            "trained_on": None if self.trained_on is None else sorted(self.trained_on),
            "trained_on_unknown": self.unknown,
            "left_out": self.left_out,
            "record": self.record,
            "pictures": [picture_to_dict(picture) for picture in self.pictures],
        }
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str = "report") -> "Report":
        """The inverse of `to_json`; raises ReportError if the text, of the file `name`, is not a report."""
        try:
            content = json.loads(text)
            pictures = tuple(picture_from_dict(values) for values in content["pictures"])
            if not pictures or any(set(picture.result) not in (set(), set(FAMILIES)) for picture in pictures):
                raise ValueError("it has no pictures, or lacks scores of some")
            trained_on = content.get("trained_on")  # older reports lack this and the two below
            return cls(
                pictures,
                content["family"],
                content["record"],
                None if trained_on is None else frozenset(trained_on),
                content.get("trained_on_unknown", ""),
                content.get("left_out", {}),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ReportError(f"{name} is not a report of an evaluation ({type(error).__name__}: {error})") from None

    @classmethod
    def read(cls, path: Path) -> "Report":
        """The report in a file that `to_json` was written to; raises ReportError if it is not a report."""
        try:
            return cls.from_json(path.read_text(encoding="utf-8"), str(path))
        except UnicodeDecodeError:
            raise ReportError(f"{path} is not a report of an evaluation: it is not text") from None


def picture_to_dict(picture: PictureScores) -> dict[str, Any]:
    """One picture as JSON's types."""

    def score(side: Side, family: Family) -> dict[str, float | None]:
        value = getattr(picture, side)[family]
        return {"psnr": value.psnr if math.isfinite(value.psnr) else None, "ssim": value.ssim}

    scores: dict[str, Any] = {family: {side: score(side, family) for side in SIDES} for family in picture.result}
    scores |= {name: dict(zip(SIDES, values, strict=True)) for name, values in picture.perceptual.items()}
    return {"name": picture.name, "width": picture.width, "height": picture.height, "scores": scores}


def picture_from_dict(values: dict[str, Any]) -> PictureScores:
    """The inverse of `picture_to_dict`; raises ValueError, KeyError or TypeError for anything else."""

    picture, scores = PictureScores(values["name"], values["width"], values["height"], {}, {}), values["scores"]
    for side, family in itertools.product(SIDES, FAMILIES):
        if family in scores:
            psnr, ssim = scores[family][side]["psnr"], scores[family][side]["ssim"]
            getattr(picture, side)[family] = Score(math.inf if psnr is None else psnr, float(ssim))
    for name in PERCEPTUAL:
        if name in scores:
            picture.perceptual[name] = scores[name]["input"], scores[name]["result"]
    return picture


def comparison_table(reports: Sequence[tuple[str, Report]]) -> str:
    """Pairs of a title and a report in one Markdown table, a line each; those of the same input follow its scores.

    Below the table, `differences` lists how the evaluations differ from the first.
    """
    measured = [name for name in (*FAMILIES, *PERCEPTUAL) if any(name in report.measured for _, report in reports)]
    columns = [f"{name} PSNR / SSIM" if name in FAMILIES else name.upper() for name in measured]
    rows = [["evaluation", "pictures", *columns]]

    def row(title: str, report: Report, side: Side) -> list[str]:
        number, known = SIDES.index(side), report.measured
        values = [report.means.cells(name)[number] if name in known else "not measured" for name in measured]
        count = f"{len(report.pictures)}{f', {len(report.trained_on)} trained on' if report.trained_on else ''}"
        return [title, count, *values]

    shown: list[Report] = []
    for title, report in reports:
        if not any(_same_inputs(report, other) for other in shown):
            shown.append(report)
            same = (other for _, other in reports if _same_inputs(report, other))
            fullest = max(same, key=lambda other: len(other.measured))
            rows.append(row(f"rainy input of {title}" if len(shown) > 1 else "rainy input", fullest, "input"))
        rows.append(row(title, report, "result"))
    notes = [f"- {note}" for note in differences(reports)]
    return "\n".join([*_markdown(rows), *[""] * bool(notes), *notes]) + "\n"


def differences(reports: Sequence[tuple[str, Report]]) -> list[str]:
    """How evaluations, pairs of a title and a report, differ from the first apart from the weights; a line each."""
    (first, base), *others = reports
    lines = []
    for title, report in others:
        for what in ("architecture", "options"):
            before, after = (_part(one.record, what) for one in (base, report))
            changes = [f"{k}: {before.get(k)} -> {v}" for k, v in after.items() if before and before.get(k) != v]
            if changes:
                lines.append(f"{title} differs from {first} in its {what}: {', '.join(changes)}")
        here, there = ({picture.name: picture for picture in one.pictures} for one in (report, base))
        same = sum(_same_input(here[name], there[name]) for name in here.keys() & there.keys())
        if not same == len(here) == len(there):
            sets = (str(one.record.get("dataset", "an unknown set")) for one in (report, base))
            now, then = (name.removesuffix(", trained on") for name in sets)
            lines.append(
                f"{title} is scored on other pictures than {first}: {len(here)} of {now}, not {len(there)} of {then}; "
                f"{same} are the same, so the means cannot be compared"
            )
    return lines


def _part(record: dict[str, Any], what: str) -> dict[str, Any]:
    if what == "options":
        return {name: record[name] for name in DERAINER_OPTIONS if name in record}
    return json.loads(json.dumps(record.get("model", {})))  # as it comes from a file


def _same_inputs(report: Report, base: Report) -> bool:
    """Whether two evaluations have the same pictures in the same order."""
    both = itertools.zip_longest(report.pictures, base.pictures)
    return all(one and other and one.name == other.name and _same_input(one, other) for one, other in both)


def _same_input(one: PictureScores, other: PictureScores) -> bool:
    """Whether two pictures with the same name are the same: equal rainy inputs have equal scores, if they have any."""
    size = (one.width, one.height) == (other.width, other.height)
    scores = [(one.input[family].psnr, other.input[family].psnr) for family in one.input.keys() & other.input.keys()]
    if not scores:  # without ground truth
        shared = one.perceptual.keys() & other.perceptual.keys()
        scores = [(one.perceptual[name][0], other.perceptual[name][0]) for name in shared]
    return size and all(before == after or math.isclose(before, after, abs_tol=1e-6) for before, after in scores)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the first column left-aligned and the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table, whose first row is the heading."""
    heading, *others = (f"| {' | '.join(row)} |" for row in rows)
    return [heading, "|---" * len(rows[0]) + "|", *others]
