"""Train a network: python train.py --config configs/rain200h.py."""

import argparse

from multifocal_jax.cli.flags import (
    add_distributed_arguments,
    exit_on_user_error,
    parse_experiment,
    start_distributed,
)


def main() -> int:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--workdir", help="checkpoints, logs and weights go here; default: runs/NAME OF THE CONFIG")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    add_distributed_arguments(parser)
    config, arguments = parse_experiment(parser)
    start_distributed(arguments)

    from multifocal_jax.training.loop import train

    result = train(config, arguments.workdir, quiet=arguments.quiet)
    if result.finished and not arguments.quiet:
        print(f"trained {result.step} steps; weights: {result.weights}")
    return 0 if result.finished else 143


if __name__ == "__main__":
    exit_on_user_error(main)
