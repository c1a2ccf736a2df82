"""Train a network: python train.py --config configs/rain200h.py."""

import argparse
import shlex
import signal

from multifocal_jax import processes
from multifocal_jax.cli.cache import keep_compiled_steps
from multifocal_jax.cli.flags import (
    add_distributed_arguments,
    exit_on_user_error,
    parse_experiment,
    start_distributed,
)
from multifocal_jax.cli.logs import quiet_libraries


def main() -> int:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--workdir", help="folder for checkpoints, logs and weights; default: runs/NAME OF THE CONFIG")
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    add_distributed_arguments(parser)
    config, arguments = parse_experiment(parser)
    quiet_libraries()
    start_distributed(arguments)
    keep_compiled_steps()

    from multifocal_jax.cli.signals import heed_signals
    from multifocal_jax.training.loop import train
    from multifocal_jax.training.stop import Stop

    workdir, stop = arguments.workdir, Stop()
    result = heed_signals(lambda: train(config, workdir, arguments.quiet, stop), stop)
    if not result.finished:
        return 128 + (stop.signal or signal.SIGTERM)  # the signal may have been sent to another process
    if processes.index() == 0 and not arguments.quiet:
        evaluate = ["python", "evaluate.py", "--workdir", workdir]
        if config.data.held_out or any(source.held_out for source in config.data.train):
            evaluate.append("--config.eval.split=held_out")
        print(f"trained {result.step} steps; weights: {result.weights}")
        print(f"score them:     {shlex.join(evaluate)}")
        print(f"de-rain a file: {shlex.join(['derain', 'photo.jpg', '--weights', workdir])}")
    return 0


if __name__ == "__main__":
    exit_on_user_error(main)
