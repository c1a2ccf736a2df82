"""The picture at the end of `make demo`: python -m multifocal_jax.cli.demo WORKDIR OUT.png."""

import sys
from pathlib import Path

from PIL import Image

from multifocal_jax.config import SourceConfig
from multifocal_jax.data.images import read_image
from multifocal_jax.data.sources import open_source
from multifocal_jax.evaluation.metrics import score
from multifocal_jax.evaluation.panels import side_by_side


def write_panels(workdir: Path, output: Path) -> None:
    """Write rainy, de-rained and clean side by side, of the first picture that the demo's evaluation scored.

    Args:
        workdir: of the demo's training and evaluation.
        output: picture to write.
    """
    source = open_source(SourceConfig(dataset="demo", split="test", rain="heavy"), "")
    rainy, clean = source.load(0)
    derained = read_image(workdir / "evaluation" / "images" / f"{source.name(0)}.png")
    before, after = score(rainy, clean).psnr, score(derained, clean).psnr
    panels = [(f"rainy, {before:.2f} dB", rainy), (f"de-rained, {after:.2f} dB", derained), ("clean", clean)]
    output.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(side_by_side(panels)).save(output)
    print(f"written to {output}")


if __name__ == "__main__":
    write_panels(*map(Path, sys.argv[1:]))
