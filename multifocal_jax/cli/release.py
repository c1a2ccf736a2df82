"""Pack weights for a release, write their model card, draw training pictures.

examples:
  multifocal release lookalikes data/bsds500_clean data/lookalikes --count 209
  multifocal release pack runs/general --config release_general
  multifocal release card general
"""

import argparse
from pathlib import Path

from multifocal_jax.cli.flags import at_least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    pack = commands.add_parser("pack", help="score a finished training and store its weights in float16")
    pack.add_argument("workdir", metavar="WORKDIR", help="workdir of the finished training")
    pack.add_argument("--config", required=True, metavar="CONFIG", help="config that the training was started with")
    pack.add_argument("--name", default="", help="name of the packaged weights; default: that in the training's config")
    pack.add_argument(
        "--average",
        nargs="+",
        default=[],
        metavar="WEIGHTS",
        help="files, workdirs or packaged names: store the mean of their parameters and the training's",
    )
    pack.add_argument("--data-root", default="", metavar="DIR", help="folder of the data, if it has moved")
    pack.add_argument("--folder", type=Path, metavar="DIR", help="to write to; default: that of the packaged weights")
    pack.add_argument("--limit", type=at_least(0), default=0, metavar="N", help="score at most N pictures of each kind")
    pack.add_argument("--note", default="", help="a remark on the training for the card")
    pack.set_defaults(run=_pack)

    card = commands.add_parser("card", help="write the model card of weights that were packed, with its pictures")
    card.add_argument("weights", metavar="NAME", help="packaged weights, or a file written by `pack`")
    card.add_argument("--folder", type=Path, default=Path("docs/weights"), metavar="DIR", help="default: docs/weights")
    card.set_defaults(run=_card)

    drawn = commands.add_parser("lookalikes", help="draw what looks like rain but is not over photographs")
    drawn.add_argument("photographs", type=Path, metavar="PHOTOS", help="folder of photographs")
    drawn.add_argument("output", type=Path, metavar="OUT", help="folder to write to")
    drawn.add_argument("--count", type=at_least(1), default=200, metavar="N", help="pictures; default: %(default)s")
    drawn.add_argument("--seed", type=at_least(0), default=0, help="default: %(default)s")
    drawn.set_defaults(run=_lookalikes)


def _pack(arguments: argparse.Namespace) -> int:
    from multifocal_jax.config_files import load_config
    from multifocal_jax.release.pack import pack
    from multifocal_jax.weights_lookup import pretrained_folder

    file = pack(
        arguments.workdir,
        arguments.folder or pretrained_folder(),
        base=load_config(arguments.config),
        base_file=arguments.config,
        name=arguments.name,
        average=arguments.average,
        data_root=arguments.data_root,
        limit=arguments.limit,
        note=arguments.note,
    )
    print(f"packed into {file} ({file.stat().st_size / 1e6:.1f} MB)")
    return 0


def _card(arguments: argparse.Namespace) -> int:
    from multifocal_jax.release.card import write_card
    from multifocal_jax.weights_lookup import find_weights

    print(f"written to {write_card(find_weights(arguments.weights), arguments.folder)}")
    return 0


def _lookalikes(arguments: argparse.Namespace) -> int:
    from multifocal_jax.release.lookalikes import write_lookalikes

    write_lookalikes(arguments.photographs, arguments.output, arguments.count, arguments.seed)
    return 0
