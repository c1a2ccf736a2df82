"""The scores of a set of pictures, written as text, Markdown, CSV or JSON."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from multifocal_jax.errors import UserError
from multifocal_jax.evaluation.metrics import FAMILIES, Family, Score
from multifocal_jax.evaluation.perceptual import PERCEPTUAL, PERCEPTUAL_TITLES, Perceptual

Side = Literal["input", "result"]
SIDES: tuple[Side, Side] = ("input", "result")

FAMILY_TITLES: dict[Family, str] = {
    "uint8": "Y, rounded luma, SSIM at full size (`uint8`)",
    "double": "Y, unrounded luma, SSIM down-sampled to about 256 pixels (`double`)",
    "rgb": "RGB (`rgb`)",
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

    def gain(self, family: Family) -> float:
        """Gain in dB; 0 if both are perfect."""
        return _gain(self.input[family], self.result[family])


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

    def mean(self, side: Side, family: Family | None = None) -> Score:
        """Mean PSNR and SSIM of the rainy ("input") or the de-rained pictures ("result")."""
        scores = [getattr(picture, side)[family or self.family] for picture in self.pictures]
        return Score(
            math.fsum(score.psnr for score in scores) / len(scores),
            math.fsum(score.ssim for score in scores) / len(scores),
        )

    @property
    def has_truth(self) -> bool:
        """Whether the pictures were compared with ground truth."""
        return bool(self.pictures and self.pictures[0].result)

    @property
    def perceptual(self) -> list[Perceptual]:
        """The metrics that were measured in addition to PSNR and SSIM."""
        return [name for name in PERCEPTUAL if all(name in picture.perceptual for picture in self.pictures)]

    def mean_perceptual(self, metric: Perceptual) -> tuple[float, float]:
        """Means of the rainy and of the de-rained pictures."""
        pairs = [picture.perceptual[metric] for picture in self.pictures]
        before, after = (math.fsum(side) / len(pairs) for side in zip(*pairs, strict=True))
        return before, after

    def count(self) -> str:
        """Number of pictures in the means, and how many of them the weights were trained on: `20 pictures`."""
        trained_on = f", {len(self.trained_on)} of them trained on" if self.trained_on else ""
        return f"{len(self.pictures)} picture{'s' * (len(self.pictures) != 1)}{trained_on}"

    def title(self, picture: PictureScores) -> str:
        """The picture's name, and whether the weights were trained on it."""
        return picture.name + " (trained on)" * self.was_trained_on(picture)

    def was_trained_on(self, picture: PictureScores) -> bool:
        """Whether the weights are known to have been trained on a picture."""
        return picture.name in (self.trained_on or ())

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

    def means(self) -> list[tuple[str, str, list[str]]]:
        """The table of means: name and title of a family or metric; the cells rainy, de-rained and gain."""
        lines: list[tuple[str, str, list[str]]] = []
        for family in FAMILIES if self.has_truth else ():
            before, after = self.mean("input", family), self.mean("result", family)
            cells = [_cell(before), _cell(after), f"{_gain(before, after):+.2f}"]
            lines.append((family, FAMILY_TITLES[family], cells))
        for metric in self.perceptual:
            before, after = self.mean_perceptual(metric)
            cells = [_value(before), _value(after), f"{before - after:+.4f}"]  # lower is better
            lines.append((metric, PERCEPTUAL_TITLES[metric], cells))
        return lines

    def columns(self) -> list[str]:
        """Headings of the table of pictures, after the name and the size."""
        columns = ["rainy", "de-rained", "gain"] if self.has_truth else []
        return columns + [f"{metric.upper()} {side}" for metric in self.perceptual for side in ("rainy", "de-rained")]

    def cells(self, picture: PictureScores) -> list[str]:
        """A picture's cells for `columns`, PSNR and SSIM in the headline family."""
        cells = []
        if self.has_truth:
            before, after = picture.input[self.family], picture.result[self.family]
            cells += [_cell(before), _cell(after), f"{picture.gain(self.family):+.2f}"]
        return cells + [_value(value) for metric in self.perceptual for value in picture.perceptual[metric]]

    def to_text(self) -> str:
        """Table for a terminal: one line per picture, then the means of the headline family and of the others."""
        if not self.means():
            return self._caption()
        pictures = [["", *self.columns()], *([self.title(one), *self.cells(one)] for one in self.pictures)]
        means = [["", "rainy", "de-rained", "gain"]]
        for name, _, cells in sorted(self.means(), key=lambda line: line[0] != self.family):
            means.append([f"mean {name}{' (trained on)' * bool(self.trained_on)}", *cells])
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
        if self.means():
            lines += ["", f"Means over {self.count()}{', PSNR in dB / SSIM' * self.has_truth}:", ""]
            lines += ["| measured on | rainy | de-rained | gain |", "|---|---|---|---|"]
            for name, title, cells in self.means():
                lines.append(f"| {f'**{title}**' if name == self.family else title} | {' | '.join(cells)} |")
        else:
            lines += ["", self._caption()]
        on = f", on {FAMILY_TITLES[self.family]}" if self.has_truth else ""
        lines += ["", f"Every picture{on}:", ""]
        lines += ["| " + " | ".join(["picture", "size", *self.columns()]) + " |"]
        lines += ["|---" * (len(self.columns()) + 2) + "|"]
        for picture in self.pictures:
            name = " ".join(self.title(picture).split("\n")).replace("|", "\\|")
            row = [name, f"{picture.width}×{picture.height}", *self.cells(picture)]
            lines.append("| " + " | ".join(row) + " |")
        return "\n".join(lines) + "\n"

    def to_csv(self) -> str:
        """One line per picture with every family's scores, e.g. `result_uint8_psnr`, and `trained_on` (0 or 1)."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        families = FAMILIES if self.has_truth else ()
        columns = [(side, family) for family in families for side in SIDES]
        scores = [f"{side}_{family}_{measure}" for side, family in columns for measure in ("psnr", "ssim")]
        scores += [f"{side}_{metric}" for metric in self.perceptual for side in SIDES]
        known = self.trained_on is not None
        writer.writerow(["name", "width", "height", *scores, *["trained_on"] * known])
        for picture in self.pictures:
            row: list[Any] = [picture.name, picture.width, picture.height]
            for side, family in columns:
                score: Score = getattr(picture, side)[family]
                row += [f"{score.psnr:.4f}", f"{score.ssim:.6f}"]
            row += [f"{value:.6f}" for metric in self.perceptual for value in picture.perceptual[metric]]
            writer.writerow([*row, *[int(self.was_trained_on(picture))] * known])
        return text.getvalue()

    def to_json(self) -> str:
        """Everything; an infinite PSNR (equal pictures) is null, as JSON has no infinity."""
        families = FAMILIES if self.has_truth else ()
        mean: dict[str, Any] = {
            family: {side: _score_to_dict(self.mean(side, family)) for side in SIDES} for family in families
        }
        mean |= {name: dict(zip(SIDES, self.mean_perceptual(name), strict=True)) for name in self.perceptual}
        content = {
            "family": self.family,
            "count": len(self.pictures),
            "mean": mean,
            "trained_on": None if self.trained_on is None else sorted(self.trained_on),
            "trained_on_unknown": self.unknown,
            "left_out": self.left_out,
            "record": self.record,
            "pictures": [picture_to_dict(picture) for picture in self.pictures],
        }
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str = "report") -> "Report":
        """The inverse of `to_json`.

        Args:
            text: of the file.
            name: of the file, for the error.

        Raises:
            ReportError: the text is not a report.
        """
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
        except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
            raise ReportError(f"{name} is not a report of an evaluation ({type(error).__name__}: {error})") from None

    @classmethod
    def read(cls, path: Path) -> "Report":
        """The report in a file that `to_json` was written to.

        Raises:
            ReportError: it is not a report.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ReportError(f"{path} is not a report of an evaluation: it is not text") from None
        return cls.from_json(text, str(path))


def picture_to_dict(picture: PictureScores) -> dict[str, Any]:
    """One picture as JSON's types."""
    scores: dict[str, Any] = {
        family: {side: _score_to_dict(getattr(picture, side)[family]) for side in SIDES} for family in picture.result
    }
    scores |= {name: dict(zip(SIDES, values, strict=True)) for name, values in picture.perceptual.items()}
    return {"name": picture.name, "width": picture.width, "height": picture.height, "scores": scores}


def picture_from_dict(values: dict[str, Any]) -> PictureScores:
    """The inverse of `picture_to_dict`."""
    scores = values["scores"]

    def side(name: Side) -> dict[Family, Score]:
        return {family: _score_from_dict(scores[family][name]) for family in FAMILIES if family in scores}

    perceptual: dict[Perceptual, tuple[float, float]] = {
        name: (scores[name]["input"], scores[name]["result"]) for name in PERCEPTUAL if name in scores
    }
    return PictureScores(values["name"], values["width"], values["height"], side("input"), side("result"), perceptual)


def comparison_table(reports: Sequence[tuple[str, Report]]) -> str:
    """Several evaluations in one Markdown table, a line each; evaluations of the same input follow its scores.

    Below the table, `differences` lists how the evaluations differ from the first.

    Args:
        reports: pairs of a title and a report.
    """
    families: list[Family] = list(FAMILIES) if any(report.has_truth for _, report in reports) else []
    metrics: list[Perceptual] = [name for name in PERCEPTUAL if any(name in report.perceptual for _, report in reports)]
    titles = ["evaluation", "pictures", *(f"{family} PSNR / SSIM" for family in families), *map(str.upper, metrics)]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]

    def line(title: str, report: Report, side: Side) -> str:
        cells = [_cell(report.mean(side, family)) if report.has_truth else "not measured" for family in families]
        for metric in metrics:
            measured = metric in report.perceptual
            cells.append(_value(report.mean_perceptual(metric)[SIDES.index(side)]) if measured else "not measured")
        count = f"{len(report.pictures)}{f', {len(report.trained_on)} trained on' if report.trained_on else ''}"
        return "| " + " | ".join([title, count, *cells]) + " |"

    def inputs(report: Report) -> list[Any]:
        return [
            (picture.name, picture.input, [before for before, _ in picture.perceptual.values()])
            for picture in report.pictures
        ]

    shown: list[Any] = []
    for title, report in reports:
        if inputs(report) not in shown:
            shown.append(inputs(report))
            lines.append(line(f"rainy input of {title}" if len(shown) > 1 else "rainy input", report, "input"))
        lines.append(line(title, report, "result"))
    notes = [f"- {note}" for note in differences(reports)]
    return "\n".join([*lines, *[""] * bool(notes), *notes]) + "\n"


def differences(reports: Sequence[tuple[str, Report]]) -> list[str]:
    """How evaluations differ from the first, apart from the weights: architecture, options, set, pictures; a line each.

    Args:
        reports: pairs of a title and a report.
    """
    (first, base), *others = reports
    lines = []
    for title, report in others:
        for what, part in (("architecture", _architecture), ("options", _options)):
            before, after = part(base.record), part(report.record)
            changes = [
                f"{name}: {before.get(name)} -> {after[name]}"
                for name in after
                if before and before.get(name) != after[name]
            ]
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


def _architecture(record: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(record.get("model", {})))  # as it comes from a file


def _options(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in ("precision", "tile", "overlap", "ensemble") if name in record}


def _same_input(one: PictureScores, other: PictureScores) -> bool:
    """Whether two pictures with the same name are the same: equal rainy inputs have equal scores."""
    size = (one.width, one.height) == (other.width, other.height)
    scores = ((one.input[family].psnr, other.input[family].psnr) for family in one.input if family in other.input)
    return size and all(before == after or math.isclose(before, after, abs_tol=1e-6) for before, after in scores)


def _score_to_dict(score: Score) -> dict[str, float | None]:
    return {"psnr": score.psnr if math.isfinite(score.psnr) else None, "ssim": score.ssim}


def _score_from_dict(values: dict[str, float | None]) -> Score:
    psnr, ssim = values["psnr"], values["ssim"]
    assert ssim is not None
    return Score(math.inf if psnr is None else psnr, ssim)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the first column left-aligned and the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def _gain(before: Score, after: Score) -> float:
    return 0.0 if before.psnr == after.psnr else after.psnr - before.psnr


def _cell(score: Score) -> str:
    return f"{score.psnr:.2f} / {score.ssim:.4f}"


def _value(value: float) -> str:
    return f"{value:.4f}"
