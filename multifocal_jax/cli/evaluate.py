"""Score weights on the pictures of a config, and write reports.

examples:
  multifocal evaluate --workdir runs/mine    # with the training's config
  multifocal evaluate --workdir runs/mine --config.eval.split=held_out
  multifocal evaluate --config rain200h --weights runs/one runs/two
  multifocal evaluate --config rain200h --photographs DIR --metrics niqe
"""

import argparse
from dataclasses import replace
from typing import get_args

from multifocal_jax import processes
from multifocal_jax.cli.flags import add_config_arguments, add_distributed_arguments, read_config, start_distributed
from multifocal_jax.config import Perceptual, SourceConfig
from multifocal_jax.paths import as_absolute, as_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--workdir", help="workdir of the training; default: runs/NAME OF THE CONFIG")
    parser.add_argument(
        "--weights",
        nargs="+",
        metavar="NAME",
        help="files, workdirs or packaged names instead of the workdir's weights; several are compared in one table",
    )
    parser.add_argument(
        "--output", metavar="DIR", help="folder for the reports; default: WORKDIR/evaluation or WORKDIR/photographs"
    )
    parser.add_argument(
        "--compare", nargs="+", default=[], metavar="DIR", help="add reports of earlier evaluations to the table"
    )
    parser.add_argument(
        "--photographs", metavar="DIR", help="rainy pictures without ground truth instead of the config's test pictures"
    )
    parser.add_argument(
        "--metrics", nargs="+", default=[], choices=get_args(Perceptual), help="further metrics; see docs/metrics.md"
    )
    parser.add_argument("--resume", action="store_true", help="continue an interrupted evaluation")
    parser.add_argument("--devices", type=int, default=1, help="split the rows of every picture over this many devices")
    parser.add_argument(
        "--mark-trained-on",
        action="store_true",
        help="also score held-out pictures that the weights were trained on, and mark them; refused by default",
    )
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    add_config_arguments(parser)
    add_distributed_arguments(parser)
    parser.set_defaults(run=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    config = read_config(arguments)
    start_distributed(arguments, preemptible=False)

    from multifocal_jax.cli.cache import keep_programs
    from multifocal_jax.evaluation.inference import InferenceError, TooLargeError
    from multifocal_jax.evaluation.run import read_reports, run, write_comparison

    keep_programs()
    if arguments.photographs:
        test = SourceConfig(dataset="rainy", root=str(as_absolute(arguments.photographs)))
        config = replace(config, data=replace(config.data, test=test), eval=replace(config.eval, split="test"))
    weights = arguments.weights or [config.eval.weights or arguments.workdir]
    output = arguments.output or as_path(arguments.workdir) / ("photographs" if arguments.photographs else "evaluation")
    earlier = read_reports(arguments.compare) if arguments.compare else []
    try:
        reports = run(
            config,
            weights,
            output,
            metrics=arguments.metrics,
            resume=arguments.resume,
            devices=arguments.devices,
            mark_trained_on=arguments.mark_trained_on,
            quiet=arguments.quiet,
        )
    except TooLargeError as error:
        raise InferenceError(error.advice("--config.eval.tile=")) from None
    if len(reports) + len(earlier) > 1:
        table = write_comparison([*reports, *earlier], output)
        if processes.index() == 0 and not arguments.quiet:
            print(f"\n{table}")
    return 0
