"""Make pairs for training from clean photographs.

Adds synthetic rain to a folder of photographs and writes OUT/rain/NAME.png and
OUT/norain/NAME.png. Exit status: 1 if photographs were skipped because they
cannot be read. docs/rain.md shows the styles.

examples:
  multifocal rain photos/ pairs/
  multifocal rain photos/ pairs/ --style real --seed 7
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from multifocal_jax.cli.flags import at_least
from multifocal_jax.config import RainStyle
from multifocal_jax.data.errors import DataError, ImageError

RAINY, CLEAN = "rain", "norain"  # folders below OUT, named as in the published sets
_STEP = 128  # pixels; pictures are padded to multiples of it, so that few sizes need compiling


def _rain(arguments: argparse.Namespace) -> int:
    from multifocal_jax.data.images import find_images
    from multifocal_jax.files import make_folder

    photographs = find_images(arguments.photos)
    if not photographs:
        raise DataError(f"folder {arguments.photos} holds no pictures; name a folder of photographs")
    _check_targets(photographs, arguments.photos, arguments.out, arguments.overwrite)
    for folder in (RAINY, CLEAN):
        make_folder(arguments.out / folder)
    broken = _write_pairs(photographs, arguments.out, arguments.style, arguments.seed)
    print(f"{len(photographs) - broken} pairs with {arguments.style} rain written to {arguments.out}")
    if broken:
        print(f"{broken} of {len(photographs)} photographs skipped; see above", file=sys.stderr)
    return 1 if broken else 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    styles = [style for style in get_args(RainStyle) if style not in ("none", "identity")]
    parser.add_argument("photos", metavar="PHOTOS", type=Path, help="folder of clean photographs")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write; created if necessary")
    parser.add_argument("--style", choices=styles, default="heavy", help="style of rain (default: heavy)")
    parser.add_argument("--seed", type=_seed, default=0, help="another seed gives other rain (default: 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    parser.set_defaults(run=_rain)


def _seed(text: str) -> int:
    seed = at_least(0)(text)
    if seed >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not below 2**32")
    return seed


def _check_targets(photographs: Sequence[Path], photos: Path, out: Path, overwrite: bool) -> None:
    """Before anything is written, refuse what would overwrite a photograph or a pair."""
    if photos.resolve() in ((out / RAINY).resolve(), (out / CLEAN).resolve()):
        raise DataError(f"{photos} is one of the folders to write; name another OUT than {out}")
    by_stem: dict[str, Path] = {}
    for path in photographs:
        other = by_stem.setdefault(path.stem, path)
        if other != path:
            raise DataError(f"{other} and {path} would both be written as {path.stem}.png; rename one of them")
    existing = [target for path in photographs for target in _targets(path, out) if target.exists()]
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more exist" if len(existing) > 1 else " exists"
        raise DataError(f"{existing[0]}{more}; name another OUT, or pass --overwrite to replace them")


def _targets(photograph: Path, out: Path) -> tuple[Path, Path]:
    """Files of the rainy and of the clean picture."""
    return out / RAINY / f"{photograph.stem}.png", out / CLEAN / f"{photograph.stem}.png"


def _write_pairs(photographs: Sequence[Path], out: Path, style: str, seed: int) -> int:
    """Write the pairs that can be written; returns the number of photographs that cannot be read."""
    from tqdm import tqdm

    from multifocal_jax.data.images import read_image, write_image
    from multifocal_jax.data.rain import rain_key, rain_over

    broken = 0
    with tqdm(photographs, unit="pair", desc=f"{style} rain") as progress:
        for index, path in enumerate(progress):
            try:
                photograph = read_image(path)
            except ImageError as error:
                progress.write(f"error: {error}", file=sys.stderr)
                broken += 1
                continue
            # The index counts broken photographs, too: repairing one does not change the rain over the others.
            pair = rain_over(rain_key(seed, index), photograph, style, _STEP)
            for target, image in zip(_targets(path, out), pair, strict=True):
                write_image(target, image)
    return broken
