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
from multifocal_jax.cli.flags import (
    DEFAULT_WORKDIR,
    add_config_arguments,
    add_distributed_arguments,
    read_config,
    start_distributed,
)
from multifocal_jax.config import Perceptual, SourceConfig
from multifocal_jax.paths import as_absolute, as_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    add("--workdir", help=f"workdir of the training; {DEFAULT_WORKDIR}")
    add("--weights", nargs="+", metavar="NAME", help="files, workdirs or packaged names; several are compared")
    add("--output", metavar="DIR", help="for the reports; default: WORKDIR/evaluation or WORKDIR/photographs")
    add("--compare", nargs="+", default=[], metavar="DIR", help="add reports of earlier evaluations to the table")
    add("--photographs", metavar="DIR", help="rainy pictures without ground truth instead of the config's pairs")
    add("--metrics", nargs="+", default=[], choices=get_args(Perceptual), help="further metrics; see docs/metrics.md")
    add("--resume", action="store_true", help="continue an interrupted evaluation")
    add("--devices", type=int, default=1, help="split the rows of every picture over this many devices")
    add("--mark-trained-on", action="store_true", help="score and mark held-out pictures that were trained on")
    add("--quiet", action="store_true", help="print errors only")
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
        names = ("metrics", "resume", "devices", "mark_trained_on", "quiet")
        reports = run(config, weights, output, **{name: getattr(arguments, name) for name in names})
    except TooLargeError as error:
        raise InferenceError(error.advice("--config.eval.tile=")) from None
    if len(reports) + len(earlier) > 1:
        table = write_comparison([*reports, *earlier], output)
        if processes.index() == 0 and not arguments.quiet:
            print(f"\n{table}")
    return 0
