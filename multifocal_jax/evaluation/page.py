"""One self-contained HTML page with a before/after slider per picture, worst results first."""

import base64
import html
import io
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import BinaryIO

import numpy as np
from PIL import Image

from multifocal_jax.data.sources import PairSource, RainySource
from multifocal_jax.evaluation.metrics import Family
from multifocal_jax.evaluation.perceptual import Perceptual
from multifocal_jax.evaluation.report import TITLES, PictureScores, Report
from multifocal_jax.files import encode, write_whole

PAGE = "report.html"
MOST_PICTURES = 200  # the worst ones that a page shows; browsers struggle with larger files
_WEBP_QUALITY = 88
_WEBP_SIDE = 16383  # pixels, the most that WebP holds; larger pictures are shown reduced


def write_page(report: Report, source: PairSource | RainySource, folder: Path) -> None:
    """Write `report.html` of an evaluation whose pictures of `source` were saved as `images/NAME.png` in `folder`.

    Pictures are shown as lossy WebP, so that the page stays small; the scores are those of the written PNG files. A
    page shows the worst 200 pictures at most, and the scores of all of them.

    Raises:
        OutputError: the page cannot be written.
    """
    worst = report.worst_first()
    index = {source.name(i): i for i in range(len(report.pictures))}
    template = Template((files("multifocal_jax.evaluation") / "page.html").read_text("utf-8"))
    shown = min(len(worst), MOST_PICTURES)
    head, tail = template.substitute(
        title=html.escape(str(report.record.get("name", "Evaluation"))),
        facts="".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in report.facts()),
        means="".join(_means(report, name) for name in report.measured),
        columns="".join(f"<th>{name}</th>" for name in report.columns()),
        rows="".join(_row(report, picture, number < shown) for number, picture in enumerate(worst)),
        count=report.count(),
        unit=", PSNR in dB / SSIM on" if report.has_truth else "",
        order=report.order(),
        shown="all of them" if shown == len(worst) else f"the first {shown}",
        family=f", on {_title(report.family)}" if report.has_truth else "",
        truth="" if report.has_truth else "hidden",
        figures="\0",
    ).split("\0")

    def write(file: BinaryIO) -> None:
        file.write(encode(head))
        for picture in worst[:MOST_PICTURES]:  # one at a time, as all of them together may be large
            rainy, clean = source.load(index[picture.name])
            with (folder / "images" / f"{picture.name}.png").open("rb") as data, Image.open(data) as result:
                file.write(encode(_figure(report, picture, rainy, np.asarray(result), clean)))
        file.write(encode(tail))

    write_whole(folder / PAGE, write)


def _means(report: Report, measure: Family | Perceptual) -> str:
    mark = ' class="headline"' if measure == report.family else ""
    return f"<tr{mark}><th scope=row>{_title(measure)}</th>{_cells(report.means.cells(measure))}</tr>"


def _row(report: Report, picture: PictureScores, shown: bool) -> str:
    name = html.escape(picture.name)
    title = html.escape(report.title(picture))
    link = f'<a href="#{name}">{title}</a>' if shown else title
    cells = _cells([f"{picture.width}×{picture.height}", *report.cells(picture)])
    return f"<tr><th scope=row>{link}</th>{cells}</tr>"


def _cells(cells: list[str]) -> str:
    return "".join(f"<td>{cell}</td>" for cell in cells)


def _figure(
    report: Report, picture: PictureScores, rainy: np.ndarray, result: np.ndarray, clean: np.ndarray | None
) -> str:
    name = html.escape(picture.name)
    scores = " · ".join(map(" ".join, zip(report.columns(), report.cells(picture), strict=True)))
    size = f'width="{picture.width}" height="{picture.height}"'
    images = [("after", "de-rained", result, ""), ("before rainy", "rainy", rainy, "")]
    if clean is not None:
        images.append(("before clean", "ground truth", clean, " hidden"))
    return (
        f'<figure id="{name}"><figcaption><b>{html.escape(report.title(picture))}</b> {scores}</figcaption>'
        f'<div class="slider" style="aspect-ratio:{picture.width}/{picture.height};max-width:{2 * picture.width}px">'
        + "".join(
            f'<img class="{kind}" alt="{name}, {title}" {size} src="{_uri(pixels)}"{hidden}>'
            for kind, title, pixels, hidden in images
        )
        + f'<span class="edge"></span><input type="range" min="0" max="100" value="50" step="0.1" '
        f'aria-label="{name}: how much of the left picture is shown"></div></figure>\n'
    )


def _title(measure: Family | Perceptual) -> str:
    return html.escape(TITLES[measure].replace("`", ""))


def _uri(picture: np.ndarray) -> str:
    data = io.BytesIO()
    shown = Image.fromarray(picture)
    shown.thumbnail((_WEBP_SIDE, _WEBP_SIDE))
    shown.save(data, "webp", quality=_WEBP_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()
