"""Shared by the entry points: `--config FILE`, `--config.FIELD=VALUE`, and user errors as one line."""

import argparse
import io
import multiprocessing
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from multifocal_jax import processes
from multifocal_jax.cli.platforms import missing_platform
from multifocal_jax.config import ConfigError, ExperimentConfig
from multifocal_jax.config_files import WORKDIR_CONFIG, apply_overrides, load_config
from multifocal_jax.errors import UserError
from multifocal_jax.paths import as_path

OVERRIDES_HELP = (
    "Any field of the config can be overridden: --config.train.batch_size=16, --config.model.channels 32, "
    "--config.data.train.0.root=DIR."
)


def parse_experiment(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None = None, default: ExperimentConfig | None = None
) -> tuple[ExperimentConfig, argparse.Namespace]:
    """Add `--config` and the overrides to an entry point's own arguments, and parse them all.

    Args:
        parser: holds the entry point's own arguments; created with `allow_abbrev=False`.
        argv: the command line without the program's name; None means the process's.
        default: the config if `--config` is omitted; None means that of the `--workdir`.

    Returns:
        The config with the overrides applied, and the entry point's own arguments; an omitted `--workdir` becomes the
        folder of the given `config.json`, or runs/NAME OF THE CONFIG.

    Raises:
        ConfigError: the config file or an override is wrong, or there is no config.
    """
    parser.epilog = OVERRIDES_HELP
    otherwise = f"; default: the {WORKDIR_CONFIG} of --workdir" if default is None else ""
    parser.add_argument(
        "--config", metavar="FILE[:ARGUMENT]", help=f"experiment, e.g. configs/demo.py or a {WORKDIR_CONFIG}{otherwise}"
    )
    arguments, overrides = _split_overrides(sys.argv[1:] if argv is None else argv, parser)
    namespace = parser.parse_args(arguments)
    if namespace.config:
        config = load_config(namespace.config)
    else:
        config = default or _config_of_workdir(getattr(namespace, "workdir", None))
    config = apply_overrides(config, overrides)
    if getattr(namespace, "workdir", "") is None:
        path = as_path(namespace.config)
        namespace.workdir = os.fspath(path.parent) if path.name == WORKDIR_CONFIG else f"runs/{config.name}"
    return config, namespace


def _config_of_workdir(workdir: str | None) -> ExperimentConfig:
    if workdir is None:
        raise ConfigError("no config: give --config FILE, such as configs/demo.py, or the --workdir of a training")
    path = as_path(workdir) / WORKDIR_CONFIG
    if not path.is_file():
        raise ConfigError(f"{workdir} holds no {WORKDIR_CONFIG}, which train.py writes there; give --config FILE")
    return load_config(os.fspath(path))


def add_distributed_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that start several processes as one program; see `start_distributed`."""
    group = parser.add_argument_group("several processes", "see docs/devices/slurm.md")
    group.add_argument(
        "--distributed", action="store_true", help="join the processes that Slurm, Kubernetes or Cloud TPU started"
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0, on plain machines")
    group.add_argument("--process-count", type=int, metavar="N", help="number of processes, on plain machines")
    group.add_argument("--process-id", type=int, metavar="I", help="number of this process from 0, on plain machines")
    group.add_argument(
        "--wait",
        type=at_least(1),
        default=processes.PATIENCE_SECONDS,
        metavar="SECONDS",
        help="time to wait for the other processes at the start; default: %(default)s",
    )


def start_distributed(arguments: argparse.Namespace, preemptible: bool = True) -> None:
    """Join the other processes if the command line says so; must precede any other use of JAX.

    Args:
        arguments: of a parser that `add_distributed_arguments` was called with.
        preemptible: see `processes.join`.

    Raises:
        ConfigError: the arguments for plain machines are incomplete or wrong, are combined with `--distributed`, or are
            needed because no cluster is found.
        ProcessesError: see `processes.join`.
    """
    manual = (arguments.coordinator, arguments.process_count, arguments.process_id)
    if any(value is not None for value in manual) and None in manual:
        raise ConfigError("--coordinator, --process-count and --process-id go together; give all three or none")
    if arguments.coordinator is not None:
        if arguments.distributed:
            raise ConfigError(
                "--distributed finds the processes that Slurm, Kubernetes or Cloud TPU started; --coordinator, "
                "--process-count and --process-id are for plain machines: give the one or the others"
            )
        if not re.fullmatch(r".+:\d+", arguments.coordinator):
            raise ConfigError(f"--coordinator is {arguments.coordinator!r}; allowed: HOST:PORT of process 0")
        if not 0 <= arguments.process_id < arguments.process_count:
            raise ConfigError(f"--process-id is {arguments.process_id}; allowed: 0 to --process-count - 1")
        processes.join(*manual, preemptible=preemptible, patience=arguments.wait)
    elif arguments.distributed:
        try:
            processes.join(preemptible=preemptible, patience=arguments.wait)
        except processes.ProcessesError:
            raise
        except ValueError as error:
            raise ConfigError(
                f"--distributed finds no Slurm, Kubernetes or Cloud TPU here ({error}); on plain machines give "
                "--coordinator, --process-count and --process-id"
            ) from None


def _split_overrides(argv: Sequence[str], parser: argparse.ArgumentParser) -> tuple[list[str], list[tuple[str, str]]]:
    rest, overrides, words = [], [], iter(argv)
    for word in words:
        if not word.startswith("--config."):
            rest.append(word)
            continue
        name, equals, value = word.removeprefix("--config.").partition("=")
        if not equals:
            following = next(words, None)
            if following is None:
                parser.error(f"{word} needs a value: {word}=VALUE")
            value = following
        overrides.append((name, value))
    return rest, overrides


def at_least(smallest: int) -> Callable[[str], int]:
    """An argparse type for whole numbers of at least `smallest`."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < smallest:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of {smallest} or more")
        return int(text)

    return parse


def exit_on_user_error(main: Callable[[], int]) -> None:
    """Run an entry point; an error that the user can fix ends it with one line on stderr and status 2.

    The packages raise `UserError` for what a user can cause, and the system `OSError` with the path; anything else is a
    bug and keeps its traceback, except a `JAX_PLATFORMS` that names a missing platform. Ctrl-C ends the program at once
    with status 130. If one of several processes is lost, the others end with a line that says so and status 1; after an
    error no process waits for the others. Characters that stdout's encoding lacks, such as × in ASCII, are escaped.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as Python's stderr does
    try:
        code = main()
        sys.stdout.flush()
        sys.exit(code)
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141  # as shells report a program ended by SIGPIPE
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one changes nothing
        print("interrupted", file=sys.stderr)
        for child in multiprocessing.active_children():
            child.terminate()
        _end_at_once(130)  # JAX crashes if it is torn down while a background thread still computes
    except Exception as error:
        lost = str(error) if isinstance(error, processes.LostProcessError) else processes.loss_of_process(error)
        missing = missing_platform(error)
        if missing or lost:
            print(f"error: {missing or lost}", file=sys.stderr)
        elif processes.count() == 1:
            raise
        else:
            traceback.print_exc()
        status = 2 if missing else 1
    if processes.count() > 1:  # an ordinary exit would wait for the others, who wait for this one
        _end_at_once(status)
    sys.exit(status)


def _end_at_once(status: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    if processes.index() == 0 and processes.count() > 1:
        time.sleep(1)  # JAX ends the others as soon as this one is gone: give them time to report their own error
    os._exit(status)
