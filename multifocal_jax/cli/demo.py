"""The picture at the end of `make demo`: python -m multifocal_jax.cli.demo WORKDIR OUT.png."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from multifocal_jax.cli.flags import exit_on_user_error


def main(argv: Sequence[str] | None = None) -> int:
    """Write rainy, de-rained and clean side by side, of the first picture that the demo's evaluation scored."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("workdir", type=Path, help="workdir of a training and its evaluation")
    parser.add_argument("output", type=Path, help="picture to write")
    arguments = parser.parse_args(argv)

    from PIL import Image

    from multifocal_jax.config import SourceConfig
    from multifocal_jax.data.images import read_image
    from multifocal_jax.data.sources import open_source
    from multifocal_jax.evaluation.metrics import score
    from multifocal_jax.evaluation.panels import side_by_side

    source = open_source(SourceConfig(dataset="demo", split="test", rain="heavy"), "")
    rainy, clean = source.load(0)
    derained = read_image(arguments.workdir / "evaluation" / "images" / f"{source.name(0)}.png")
    before, after = score(rainy, clean), score(derained, clean)
    panels = [
        (f"rainy, {before.psnr:.2f} dB", rainy),
        (f"de-rained, {after.psnr:.2f} dB", derained),
        ("clean", clean),
    ]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(side_by_side(panels)).save(arguments.output)
    print(f"written to {arguments.output}")
    return 0


if __name__ == "__main__":
    exit_on_user_error(main)
