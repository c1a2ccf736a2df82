"""Parameters, multiply-accumulates, time and memory of a network: python -m multifocal_jax.cost [--config FILE]."""

import argparse
import re
from collections.abc import Sequence

from multifocal_jax.cli.flags import at_least, exit_on_user_error, parse_experiment
from multifocal_jax.config import ConfigError, ExperimentConfig

DEFAULT_SIZES = ("128x128", "481x321")


def cost(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m multifocal_jax.cost", description=__doc__, allow_abbrev=False)
    parser.add_argument("--sizes", nargs="+", default=DEFAULT_SIZES, metavar="WxH", help="sizes of pictures, in pixels")
    parser.add_argument("--repeats", type=at_least(0), default=3, help="timed runs; 0 only counts")
    parser.add_argument("--precision", choices=("float32", "bfloat16", "float64"), default="float32")
    config, arguments = parse_experiment(parser, argv, default=ExperimentConfig())
    sizes = [_size(text) for text in arguments.sizes]

    from multifocal_jax.cost import measure, to_markdown

    costs = measure(config.model, sizes, precision=arguments.precision, repeats=arguments.repeats)
    print(to_markdown(config.model, costs))
    if arguments.repeats:
        import jax

        device = jax.devices()[0]
        where = f"{device.device_kind} ({device.platform})"
        print(f"\nMeasured on one {where}, {arguments.precision}, one picture at a time.")
    return 0


def _size(text: str) -> tuple[int, int]:
    """Height and width."""
    match = re.fullmatch(r"(\d+)[x×](\d+)", text)
    if not match or 0 in (int(match[1]), int(match[2])):
        raise ConfigError(f"size {text!r} is not understood; allowed: WIDTHxHEIGHT, such as 481x321")
    return int(match[2]), int(match[1])


def main() -> None:
    """Entry point of the command."""
    exit_on_user_error(cost)


if __name__ == "__main__":
    main()
