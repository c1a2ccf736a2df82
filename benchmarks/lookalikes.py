"""Pictures of things that look like rain but are not, and must not change: python -m benchmarks.lookalikes.

Text, a page, grass, bricks, fur and whiskers from scikit-image's wheel, and drawn railings and strings.
Every picture is de-rained and scored against itself.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from multifocal_jax.data.demo import photographs
from multifocal_jax.data.images import read_image
from multifocal_jax.evaluation.metrics import score
from multifocal_jax.evaluation.panels import side_by_side
from multifocal_jax.files import make_folder, write_whole
from multifocal_jax.release.lookalikes import draw_lines

_SIDE = 256  # pixels
_FILES = {"text": "text.png", "page": "page.png", "grass": "grass.png", "bricks": "brick.png", "fur": "chelsea.png"}


def lookalikes() -> dict[str, np.ndarray]:
    """Pictures by name, uint8 (H, W, 3), at most 256×256."""
    files = photographs(_FILES.values())
    pictures = {name: read_image(file)[:_SIDE, -_SIDE:] for name, file in zip(_FILES, files, strict=True)}
    lawn = pictures["grass"]
    upright = [([(x, 0), (x, _SIDE)], 3) for x in range(6, _SIDE, 14)]
    slanted = [([(x, 0), (x + 60, _SIDE)], 1) for x in range(-60, _SIDE, 9)]
    return pictures | {
        "railings": draw_lines(lawn // 3, upright, 215),
        "strings": draw_lines(np.full_like(lawn, (60, 70, 95)), slanted, 230),
    }


def table(derain: Callable[[np.ndarray], np.ndarray], folder: Path | None = None) -> str:
    """How a network changes every picture.

    Args:
        derain: uint8 (H, W, 3) in and out.
        folder: where to put the pictures before and after, if anywhere.
    """
    from PIL import Image

    lines = ["| picture | PSNR against itself, dB | SSIM | largest change of 255 |", "|---|---|---|---|"]
    for name, picture in lookalikes().items():
        after = derain(picture)
        kept, changed = score(after, picture), np.abs(after.astype(int) - picture).max()
        lines.append(f"| {name} | {min(kept.psnr, 100):.2f} | {kept.ssim:.4f} | {changed} |")
        if folder:
            sheet = Image.fromarray(side_by_side([(name, picture), ("de-rained", after)]))
            write_whole(folder / f"{name}.png", lambda file, sheet=sheet: sheet.save(file, "PNG"))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lookalikes", description=__doc__, allow_abbrev=False)
    parser.add_argument("--weights", metavar="NAME", help="packaged weights, a workdir or a file; default: as `derain`")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the pictures before and after")
    arguments = parser.parse_args(argv)
    from multifocal_jax import load

    if arguments.out:
        make_folder(arguments.out)
    print(table(load(arguments.weights) if arguments.weights else load(), arguments.out))
    return 0


if __name__ == "__main__":
    from multifocal_jax.cli.flags import exit_on_user_error

    exit_on_user_error(main)
