"""Compare the paper's tables and figures with ours.

examples:
  multifocal paper table1
  multifocal paper table2 --run --minutes 600 --config.train.epochs=10
  multifocal paper figure1 photo.jpg -o figure1.png --weights runs/rain200h
  multifocal paper detection photos/ -o detected/
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from multifocal_jax.errors import UserError
from multifocal_jax.paper import run_table, table_text
from multifocal_jax.paper.tables import TABLES

if TYPE_CHECKING:
    from multifocal_jax.paper.detection import Person


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    whats = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    for name, table in TABLES.items():
        _add_table(whats.add_parser(name, help=table.title.lower(), allow_abbrev=False))
    _add_figure(whats.add_parser("figure1", help="what wavelet bands and heads add to the features of a picture"))
    _add_detection(whats.add_parser("detection", help="persons detected before and after (section 4.4)"))


def _add_table(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Fields may be overridden in all runs, e.g. --config.train.epochs=10 --config.data.root=DIR."
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of the workdirs; default: runs"
    )
    parser.add_argument("--run", action="store_true", dest="missing", help="train and evaluate what is missing")
    parser.add_argument("--minutes", type=float, default=0, help="start nothing new after this time; 0: no limit")
    parser.set_defaults(run=_table, overrides=[])


def _add_figure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("picture", help="a rainy picture")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="picture to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.add_argument("--weights", metavar="NAME", help="file, workdir or name of packaged weights")
    parser.add_argument("--module", type=int, help="basic module, from 0; default: the last")
    parser.add_argument("--level", type=int, default=0, help="level of the pyramid; 0 is full size")
    parser.set_defaults(run=_figure1)


def _add_detection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="+", help="rainy pictures or folders of them")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="for the pictures to write")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    parser.add_argument("--weights", metavar="NAME", help="file, workdir or name of packaged weights")
    parser.add_argument("--threshold", type=float, default=0.0, help="lowest score that counts; default: 0")
    parser.set_defaults(run=_detection)


def _table(arguments: argparse.Namespace) -> int:
    overrides = [f"--config.{name}={value}" for name, value in arguments.overrides]
    status = run_table(arguments.what, arguments.runs, overrides, arguments.minutes) if arguments.missing else 0
    print(table_text(arguments.what, arguments.runs))
    return status


def _figure1(arguments: argparse.Namespace) -> int:
    from multifocal_jax.data.images import read_image
    from multifocal_jax.media.photographs import save_picture
    from multifocal_jax.paper.figure1 import attention_groups, draw_groups
    from multifocal_jax.weights import load_weights
    from multifocal_jax.weights_lookup import DEFAULT_NAME, find_weights

    _check_outputs([Path(arguments.picture)], [arguments.output], arguments.overwrite)
    weights = load_weights(find_weights(arguments.weights or DEFAULT_NAME))
    picture = read_image(arguments.picture)
    module = weights.model.modules - 1 if arguments.module is None else arguments.module
    groups = attention_groups(weights.params, weights.model, picture, module, arguments.level)
    save_picture(draw_groups(picture, groups), arguments.output)
    print(f"written to {arguments.output}")
    return 0


def _check_outputs(sources: Sequence[Path], targets: Sequence[Path], overwrite: bool) -> None:
    lost = {source.resolve() for source in sources} & {target.resolve() for target in targets}
    if lost:
        raise UserError(f"{min(lost)} would be replaced; choose another --output")
    for target in targets:
        if target.exists() and not overwrite:
            raise UserError(f"{target} exists; choose another --output, or add --overwrite")


def _detection(arguments: argparse.Namespace) -> int:
    from multifocal_jax.data.images import find_images, read_image
    from multifocal_jax.data.layouts import unique_names
    from multifocal_jax.evaluation.inference import load
    from multifocal_jax.media.photographs import save_picture
    from multifocal_jax.paper.detection import compare, people_detector
    from multifocal_jax.weights_lookup import DEFAULT_NAME

    given = [Path(text) for text in arguments.pictures]
    files = [file for path in given for file in (find_images(path) if path.is_dir() else [path])]
    if not files:
        raise UserError(f"no pictures in {', '.join(arguments.pictures)}")
    targets = [arguments.output / f"{name}.png" for name in unique_names(files, Path())]
    _check_outputs(files, targets, arguments.overwrite)
    detect = people_detector(arguments.threshold)
    derain = load(arguments.weights or DEFAULT_NAME)
    total = [0, 0]
    print("| picture | rainy | de-rained |\n|---|---|---|")
    for file, target in zip(files, targets, strict=True):
        *found, sheet = compare(detect, derain, read_image(file))
        save_picture(sheet, target)
        total = [count + len(people) for count, people in zip(total, found, strict=True)]
        print(f"| {file.name} | {' | '.join(map(_spell, found))} |")
    print(f"| all | {total[0]} | {total[1]} |")
    return 0


def _spell(people: Sequence["Person"]) -> str:
    scores = ", ".join(f"{person.score:.2f}" for person in people)
    return f"{len(people)} ({scores})" if people else "0"
