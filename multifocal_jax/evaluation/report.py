"""The scores of a set of pictures, and how they are written down: text, Markdown, CSV, JSON."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from multifocal_jax.errors import UserError
from multifocal_jax.evaluation.metrics import FAMILIES, Family, Score

Side = Literal["input", "result"]

FAMILY_TITLES: dict[Family, str] = {
    "uint8": "Y, rounded luma, SSIM at full size (`uint8`)",
    "double": "Y, unrounded luma, SSIM down-sampled to about 256 pixels (`double`)",
    "rgb": "RGB (`rgb`)",
}


class ReportError(UserError):
    """A stored report cannot be read."""


@dataclass(frozen=True)
class PictureScores:
    """Scores of one picture against its ground truth.

    Attributes:
        name: of the picture, without suffix.
        width, height: in pixels.
        input: of the rainy picture, by family.
        result: of the de-rained picture, by family.
    """

    name: str
    width: int
    height: int
    input: dict[Family, Score]
    result: dict[Family, Score]

    def gain(self, family: Family) -> float:
        """Decibels won; not a number where both are perfect."""
        return self.result[family].psnr - self.input[family].psnr


@dataclass(frozen=True)
class Report:
    """Scores of a set of pictures; means are over pictures.

    Attributes:
        pictures: in the order of the set.
        family: of the headline figures.
        record: what was scored: config, weights, options; JSON types.
    """

    pictures: tuple[PictureScores, ...]
    family: Family = "uint8"
    record: dict[str, Any] = field(default_factory=dict)

    def mean(self, side: Side, family: Family | None = None) -> Score:
        """Mean PSNR and SSIM of the rainy ("input") or the de-rained pictures ("result")."""
        scores = [getattr(picture, side)[family or self.family] for picture in self.pictures]
        return Score(
            math.fsum(score.psnr for score in scores) / len(scores),
            math.fsum(score.ssim for score in scores) / len(scores),
        )

    def worst_first(self) -> list[PictureScores]:
        """Pictures by ascending PSNR of the result."""
        return sorted(self.pictures, key=lambda picture: picture.result[self.family].psnr)

    def to_text(self) -> str:
        """Table for a terminal: one line per picture, then the means of the headline family and of the others."""
        width = max(12, *(len(picture.name) for picture in self.pictures))
        lines = [f"{'':{width}}  {'rainy':>15}  {'de-rained':>15}  {'gain':>6}"]
        for picture in self.pictures:
            before, after = picture.input[self.family], picture.result[self.family]
            lines.append(f"{picture.name:{width}}  {_pair(before)}  {_pair(after)}  {picture.gain(self.family):+6.2f}")
        lines.append("-" * len(lines[0]))
        for family in sorted(FAMILIES, key=lambda other: other != self.family):
            before, after = self.mean("input", family), self.mean("result", family)
            name = f"mean {family}"
            lines.append(f"{name:{width}}  {_pair(before)}  {_pair(after)}  {after.psnr - before.psnr:+6.2f}")
        lines.append(f"PSNR in dB / SSIM of {len(self.pictures)} pictures; lines show the family {self.family!r}.")
        return "\n".join(lines)

    def to_markdown(self) -> str:
        """The means of every family, then a table of the pictures in the headline family."""
        lines = [f"# De-raining: {self.record.get('name', 'evaluation')}", ""]
        lines += [f"- {name}: {value}" for name, value in self.record.items() if isinstance(value, str | int | float)]
        lines += ["", f"Means over {len(self.pictures)} pictures, PSNR in dB / SSIM:", ""]
        lines += ["| measured on | rainy | de-rained | gain |", "|---|---|---|---|"]
        for family in FAMILIES:
            before, after = self.mean("input", family), self.mean("result", family)
            title = f"**{FAMILY_TITLES[family]}**" if family == self.family else FAMILY_TITLES[family]
            lines.append(f"| {title} | {_cell(before)} | {_cell(after)} | {after.psnr - before.psnr:+.2f} |")
        lines += ["", f"Every picture, on {FAMILY_TITLES[self.family]}:", ""]
        lines += ["| picture | size | rainy | de-rained | gain |", "|---|---|---|---|---|"]
        for picture in self.pictures:
            before, after = picture.input[self.family], picture.result[self.family]
            lines.append(
                f"| {picture.name} | {picture.width}×{picture.height} | {_cell(before)} | {_cell(after)} "
                f"| {picture.gain(self.family):+.2f} |"
            )
        return "\n".join(lines) + "\n"

    def to_csv(self) -> str:
        """One line per picture with every family's scores, e.g. `result_uint8_psnr`."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        sides: tuple[Side, ...] = ("input", "result")
        columns = [(side, family) for family in FAMILIES for side in sides]
        scores = [f"{side}_{family}_{measure}" for side, family in columns for measure in ("psnr", "ssim")]
        writer.writerow(["name", "width", "height", *scores])
        for picture in self.pictures:
            row: list[Any] = [picture.name, picture.width, picture.height]
            for side, family in columns:
                score: Score = getattr(picture, side)[family]
                row += [f"{score.psnr:.4f}", f"{score.ssim:.6f}"]
            writer.writerow(row)
        return text.getvalue()

    def to_json(self) -> str:
        """Everything; an infinite PSNR (equal pictures) is null, as JSON has no infinity."""
        sides: tuple[Side, ...] = ("input", "result")
        content = {
            "family": self.family,
            "count": len(self.pictures),
            "mean": {family: {side: _score_to_dict(self.mean(side, family)) for side in sides} for family in FAMILIES},
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
            ReportError: the text is no report.
        """
        try:
            content = json.loads(text)
            pictures = tuple(picture_from_dict(values) for values in content["pictures"])
            return cls(pictures, content["family"], content["record"])
        except (ValueError, KeyError, TypeError) as error:
            raise ReportError(f"{name} is no report of evaluate.py ({type(error).__name__}: {error})") from None


def picture_to_dict(picture: PictureScores) -> dict[str, Any]:
    """One picture as JSON's types."""
    sides: tuple[Side, ...] = ("input", "result")
    scores = {family: {side: _score_to_dict(getattr(picture, side)[family]) for side in sides} for family in FAMILIES}
    return {"name": picture.name, "width": picture.width, "height": picture.height, "scores": scores}


def picture_from_dict(values: dict[str, Any]) -> PictureScores:
    """The inverse of `picture_to_dict`."""
    by_side: dict[str, dict[Family, Score]] = {
        side: {family: _score_from_dict(values["scores"][family][side]) for family in FAMILIES}
        for side in ("input", "result")
    }
    return PictureScores(values["name"], values["width"], values["height"], by_side["input"], by_side["result"])


def side_by_side(reports: Sequence[tuple[str, Report]]) -> str:
    """Several evaluations in one Markdown table, a line each; the rainy input leads where all have the same.

    Args:
        reports: pairs of a title and a report.
    """
    lines = ["| evaluation | pictures | " + " | ".join(f"{family} PSNR / SSIM" for family in FAMILIES) + " |"]
    lines.append("|---" * (len(FAMILIES) + 2) + "|")

    def line(title: str, report: Report, side: Side) -> str:
        cells = " | ".join(_cell(report.mean(side, family)) for family in FAMILIES)
        return f"| {title} | {len(report.pictures)} | {cells} |"

    inputs = [[(picture.name, picture.input) for picture in report.pictures] for _, report in reports]
    if all(other == inputs[0] for other in inputs):
        lines.append(line("rainy input", reports[0][1], "input"))
        lines += [line(title, report, "result") for title, report in reports]
    else:
        for title, report in reports:
            lines += [line(f"{title}: rainy input", report, "input"), line(title, report, "result")]
    return "\n".join(lines) + "\n"


def _score_to_dict(score: Score) -> dict[str, float | None]:
    return {"psnr": score.psnr if math.isfinite(score.psnr) else None, "ssim": score.ssim}


def _score_from_dict(values: dict[str, float | None]) -> Score:
    psnr, ssim = values["psnr"], values["ssim"]
    assert ssim is not None
    return Score(math.inf if psnr is None else psnr, ssim)


def _pair(score: Score) -> str:
    return f"{score.psnr:6.2f} / {score.ssim:6.4f}"


def _cell(score: Score) -> str:
    return f"{score.psnr:.2f} / {score.ssim:.4f}"
