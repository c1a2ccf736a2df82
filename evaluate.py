"""Score weights on the pictures of a config: python evaluate.py --config configs/rain200h.py [--workdir DIR]."""

import argparse
from pathlib import Path

from multifocal_jax.cli.flags import exit_on_user_error, parse_experiment


def main() -> int:
    """Parse the command line and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--workdir", help="of the training; default: runs/NAME OF THE CONFIG")
    parser.add_argument(
        "--weights",
        nargs="+",
        metavar="NAME",
        help="files, workdirs or packaged names instead of the workdir's; several give one table side by side",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="of the reports; default: WORKDIR/evaluation")
    parser.add_argument(
        "--compare", nargs="+", default=[], metavar="DIR", help="put reports of earlier evaluations into the table"
    )
    parser.add_argument("--resume", action="store_true", help="go on with an evaluation that was interrupted")
    parser.add_argument("--devices", type=int, default=1, help="spread the rows of a picture over so many devices")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    config, arguments = parse_experiment(parser)

    from multifocal_jax.evaluation.run import read_reports, run, write_comparison

    workdir = arguments.workdir or f"runs/{config.name}"
    weights = arguments.weights or [config.eval.weights or workdir]
    output = arguments.output or Path(workdir) / "evaluation"
    earlier = read_reports(arguments.compare) if arguments.compare else []
    reports = run(config, weights, output, resume=arguments.resume, devices=arguments.devices, quiet=arguments.quiet)
    if len(reports) + len(earlier) > 1:
        table = write_comparison([*reports, *earlier], output)
        if not arguments.quiet:
            print(f"\n{table}")
    return 0


if __name__ == "__main__":
    exit_on_user_error(main)
