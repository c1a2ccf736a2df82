"""Count the network's operations, and measure time and memory.

examples:
  multifocal cost
  multifocal cost --config rain200h --sizes 128x128 1920x1080
  multifocal cost --config.model.channels=32 --repeats 0
"""

import argparse

from multifocal_jax.cli.flags import add_config_arguments, at_least, height_and_width, read_config
from multifocal_jax.config import ExperimentConfig

DEFAULT_SIZES = [(128, 128), (321, 481)]  # heights and widths


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=height_and_width,
        default=DEFAULT_SIZES,
        metavar="WxH",
        help="e.g. 481x321, in pixels",
    )
    parser.add_argument("--repeats", type=at_least(0), default=3, help="timed runs; 0 only counts")
    parser.add_argument("--precision", choices=("float32", "bfloat16", "float64"), default="float32")
    add_config_arguments(parser, default=ExperimentConfig())
    parser.set_defaults(run=_cost)


def _cost(arguments: argparse.Namespace) -> int:
    config = read_config(arguments)

    from multifocal_jax.cost import measure, to_markdown

    costs = measure(config.model, arguments.sizes, precision=arguments.precision, repeats=arguments.repeats)
    print(to_markdown(config.model, costs))
    if arguments.repeats:
        import jax

        device = jax.devices()[0]
        where = f"{device.device_kind} ({device.platform})"
        print(f"\nMeasured on one {where}, {arguments.precision}, one picture at a time.")
    return 0
