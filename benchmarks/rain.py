"""Describes each style of synthetic rain in figures and pictures: python -m benchmarks.rain PHOTOS.

It prints the table of docs/rain.md; --pairs adds rows for sets of pairs, and --images writes the pictures shown there.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from multifocal_jax.config import SourceConfig
from multifocal_jax.data.demo import shown_photographs
from multifocal_jax.data.rain import STYLES, rain_key, rain_over
from multifocal_jax.data.sources import PairSource, open_source
from multifocal_jax.evaluation.metrics import luma, psnr
from multifocal_jax.files import make_folder, write_whole

_WHITE = 219.0  # range of the luma
_SEEN = 0.03  # difference that counts as covered by rain, 1 being white
_REACH = 160  # pixels up to which a streak's length is looked for
_SIDE = 240  # pixels of the pictures shown


class Rain(NamedTuple):
    """Figures of the rain in one picture; NaN if there is no rain."""

    covered: float  # share of the pixels that rain changes visibly
    brightness: float  # mean size of that change, 1 being white over black
    darker: float  # share of the changed pixels that the rain darkens
    width: float  # of a streak in pixels, at half its brightness
    length: float
    angle: float  # main direction in degrees from the vertical, positive falling towards the right
    coherence: float  # 1 for parallel streaks, 0 for no preferred direction
    psnr: float  # on luma, family "uint8", in dB


def measure(rainy: np.ndarray, clean: np.ndarray) -> Rain:
    """Figures of the rain between two pictures, uint8 (H, W, 3).

    Width and length come from the autocorrelation of the difference, whose width at half its height is √2 times that of
    a streak of Gaussian profile; what is broader than some 50 pixels, as a veil is, is left out.
    """
    from scipy.ndimage import gaussian_filter

    rounded = [np.floor(luma(side) + 0.5) for side in (rainy, clean)]
    change = (luma(rainy) - luma(clean)) / _WHITE
    seen = change[np.abs(change) > _SEEN]
    if not seen.size:
        return Rain(0.0, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, psnr(*rounded))
    streaks = change - gaussian_filter(change, 25)
    angle, coherence = direction(streaks)
    return Rain(
        covered=seen.size / change.size,
        brightness=float(np.abs(seen).mean()),
        darker=float((seen < 0).mean()),
        width=_extent(streaks, angle + 90),
        length=_extent(streaks, angle),
        angle=angle,
        coherence=coherence,
        psnr=psnr(*rounded),
    )


def direction(streaks: np.ndarray) -> tuple[float, float]:
    """Main direction of a plane (H, W) in degrees from the vertical, and its coherence.

    Both come from the mean structure tensor, by Parseval's theorem: derivatives are exact in the Fourier domain, where
    finite differences are off by degrees at thin streaks.
    """
    window = np.outer(np.hanning(streaks.shape[0]), np.hanning(streaks.shape[1]))
    power = np.abs(np.fft.fft2(window * (streaks - streaks.mean()))) ** 2
    row, column = np.fft.fftfreq(streaks.shape[0])[:, None], np.fft.fftfreq(streaks.shape[1])[None, :]
    power *= np.hypot(row, column) < 0.3  # beyond, sampling folds the spectrum
    columns, mixed, rows = (power * column**2).sum(), (power * column * row).sum(), (power * row**2).sum()
    # The gradient is across the streaks: its angle from the horizontal axis, rows counting downwards, is minus theirs.
    angle = -np.degrees(0.5 * np.arctan2(2 * mixed, columns - rows))
    return float(angle), float(np.hypot(columns - rows, 2 * mixed) / (columns + rows))


def _extent(streaks: np.ndarray, angle: float) -> float:
    """Width at half the height of a streak along a line, from the autocorrelation."""
    from scipy.ndimage import map_coordinates

    spectrum = np.fft.rfft2(streaks - streaks.mean(), [2 * side for side in streaks.shape])
    correlation = np.fft.fftshift(np.fft.irfft2(np.abs(spectrum) ** 2))
    steps = np.arange(0, _REACH, 0.25)
    turn = math.radians(angle)
    places = [side + step * steps for side, step in zip(streaks.shape, (math.cos(turn), math.sin(turn)), strict=True)]
    along = map_coordinates(correlation, places, order=1)
    below = np.flatnonzero(along < along[0] / 2)
    return float(2 * steps[below[0]] / math.sqrt(2)) if below.size else math.inf


def describe(name: str, pairs: PairSource, count: int) -> str:
    """A row of the table: medians, and the range of nine pictures in ten."""
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(count, len(pairs))).astype(int))
    figures = [measure(*pairs.load(index)) for index in chosen]

    def cell(field: str, form: str) -> str:
        low, middle, high = np.nanpercentile([getattr(figure, field) for figure in figures], [5, 50, 95])
        return f"{middle:{form}} ({low:{form}}–{high:{form}})"

    shares = [cell(field, ".0%") for field in ("covered", "darker")]
    pixels = [cell("width", ".1f"), cell("length", ".0f")]
    spread = f"{np.nanstd([figure.angle for figure in figures]):.0f}°"
    cells = [shares[0], cell("brightness", ".2f"), shares[1], *pixels, spread, cell("coherence", ".2f")]
    scores = [figure.psnr for figure in figures]
    return f"| {name} | {' | '.join(cells)} | {np.mean(scores):.2f} ± {np.std(scores):.1f} |"


def write_images(folder: Path) -> None:
    """`folder/rain-STYLE.jpg`: scikit-image's photographs under each style; three rains each under "real"."""
    from PIL import Image

    make_folder(folder)
    parts = list(shown_photographs(_SIDE).values())
    for style in STYLES:
        several = (3 if style == "real" else 1) * parts
        rainy = [rain_over(rain_key(0, index), part, style)[0] for index, part in enumerate(several)]
        rows = [np.concatenate(rainy[start : start + len(parts)], 1) for start in range(0, len(rainy), len(parts))]
        sheet = Image.fromarray(np.concatenate(rows))
        write_whole(folder / f"rain-{style}.jpg", lambda file, sheet=sheet: sheet.save(file, "JPEG", quality=80))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rain", description=__doc__, allow_abbrev=False)
    parser.add_argument("photos", metavar="PHOTOS", help="folder of clean photographs, subfolders too")
    parser.add_argument("--pictures", type=int, default=60, metavar="N", help="of each set (default: 60)")
    parser.add_argument("--pairs", nargs="*", default=[], metavar="DIR", help="folders of pairs to measure as well")
    parser.add_argument("--images", type=Path, metavar="DIR", help="write pictures of each style")
    arguments = parser.parse_args(argv)
    if arguments.images:
        write_images(arguments.images)
    print("| style | covered | brightness | darker | width, px | length, px | directions | coherence | PSNR, dB |")
    print("|" + "---|" * 9)
    for style in STYLES:
        pairs = open_source(SourceConfig(dataset="clean", root=arguments.photos, rain=style))
        print(describe(f"`{style}`", pairs, arguments.pictures), flush=True)
    for folder in arguments.pairs:
        pairs = open_source(SourceConfig(dataset="folder", root=folder))
        print(describe(Path(folder).name, pairs, arguments.pictures), flush=True)
    return 0


if __name__ == "__main__":
    from multifocal_jax.cli.flags import exit_on_user_error

    exit_on_user_error(main)
