"""Train a network, or continue a training.

examples:
  multifocal train --config rain200h
  multifocal train --config rain200h --config.data.root=/data/Rain200H
  multifocal train --config ablation:model_3
  multifocal train --config my/config.py --workdir runs/mine
  multifocal train --workdir runs/mine       # continues with that config
"""

import argparse
import os
import shlex
import signal
import sys

from multifocal_jax import processes
from multifocal_jax.cli.flags import (
    DEFAULT_WORKDIR,
    add_config_arguments,
    add_distributed_arguments,
    read_config,
    start_distributed,
)
from multifocal_jax.cli.machine import share_cores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    workdir = f"folder for checkpoints, logs and weights; {DEFAULT_WORKDIR}"
    parser.add_argument("--workdir", help=workdir)
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    add_config_arguments(parser)
    add_distributed_arguments(parser)
    parser.set_defaults(run=_train)


def _train(arguments: argparse.Namespace) -> int:
    from multifocal_jax.cli.cache import keep_compiled_steps
    from multifocal_jax.cli.logs import quiet_libraries

    config = read_config(arguments)
    quiet_libraries()
    if not (arguments.distributed or arguments.coordinator):
        share_cores(config.train.batch_size // config.train.accumulate)
    start_distributed(arguments)
    keep_compiled_steps()
    sys.path.append(os.getcwd())  # where a loss of the user's own may lie

    from multifocal_jax.cli.signals import heed_signals
    from multifocal_jax.training.loop import train
    from multifocal_jax.training.stop import Stop

    workdir, stop = arguments.workdir, Stop()
    result = heed_signals(lambda: train(config, workdir, arguments.quiet, stop), stop)
    if not result.finished:
        return 128 + (stop.signal or signal.SIGTERM)  # the signal may have been sent to another process
    if processes.index() == 0 and not arguments.quiet:
        evaluate = ["multifocal", "evaluate", "--workdir", workdir]
        if config.data.held_out or any(source.held_out for source in config.data.train):
            evaluate.append("--config.eval.split=held_out")
        print(f"trained {result.step} steps; weights: {result.weights}")
        print(f"score them:     {shlex.join(evaluate)}")
        print(f"de-rain a file: {shlex.join(['derain', 'photo.jpg', '--weights', workdir])}")
    return 0
