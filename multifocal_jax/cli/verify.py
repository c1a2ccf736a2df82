"""Compare weights in PyTorch and JAX, block by block.

Outputs, blocks and gradients of both frameworks are compared on a photograph,
in float64 and float32. Exit status: 0 they agree, 1 they differ, 2 wrong
arguments or files.

examples, of which docs/interop.md shows more:
  multifocal verify weights.pth
  multifocal verify runs/mine --image photo.jpg
  multifocal verify their.pth --names names.txt --torch-module net.py:Net
"""

import argparse

from multifocal_jax.cli.convert import add_reading, add_verifying


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments, which are some of those of `convert`."""
    parser.add_argument("source", metavar="SOURCE", help="file, workdir of a training, or name of packaged weights")
    add_reading(parser)
    add_verifying(parser)
    parser.set_defaults(verify=True)
