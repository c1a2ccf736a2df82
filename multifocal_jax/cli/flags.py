"""Shared by the commands: `--config NAME`, `--config.FIELD=VALUE`, several processes, user errors as one line."""

import argparse
import io
import math
import multiprocessing
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from multifocal_jax import processes
from multifocal_jax.cli.platforms import missing_platform
from multifocal_jax.config import ConfigError, ExperimentConfig
from multifocal_jax.config_files import (
    WORKDIR_CONFIG,
    apply_overrides,
    describe_config,
    every_field,
    list_configs,
    load_config,
    packaged_configs,
)
from multifocal_jax.errors import UserError
from multifocal_jax.paths import as_path

OVERRIDES_HELP = """any field of the config can be overridden, such as
--config.train.batch_size=16, --config.model.channels 32 or
--config.data.train.0.root=DIR; --print-config lists all fields"""

DEFAULT_WORKDIR = f"default: runs/NAME OF THE CONFIG, or the folder of a {WORKDIR_CONFIG}"


class Listing(argparse.Action):
    """Like `--help`: prints `lines()` and exits, and needs no other argument."""

    def __init__(self, option_strings: Sequence[str], dest: str, lines: Callable[[], str], **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **options)
        self._lines = lines

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print and exit."""
        print(self._lines())
        parser.exit()


def add_config_arguments(parser: argparse.ArgumentParser, default: ExperimentConfig | None = None) -> None:
    """Add `--config` and what belongs to it; see `read_config`.

    Args:
        parser: created with `allow_abbrev=False`.
        default: the config if `--config` is omitted; None means that of the `--workdir`.
    """
    group = parser.add_argument_group("experiment", OVERRIDES_HELP)
    otherwise = f"; default: the {WORKDIR_CONFIG} of --workdir" if default is None else ""
    config = group.add_argument(
        "--config",
        metavar="CONFIG",
        help=f"name of a packaged config, file such as my/config.py, or {WORKDIR_CONFIG} of a workdir{otherwise}",
    )
    group.add_argument("--list-configs", action=Listing, lines=list_configs, help="list the packaged configs and exit")
    group.add_argument("--print-config", action="store_true", help="print every field with its value and exit")
    parser.set_defaults(overrides=[], default_config=default)
    if "_ARGCOMPLETE" in os.environ:
        setattr(config, "completer", lambda **_: packaged_configs())  # noqa: B010, no attribute of argparse's
        for name in every_field(ExperimentConfig()):
            group.add_argument(f"--config.{name}")


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line, of which `--config.FIELD=VALUE` become pairs (FIELD, VALUE) in `overrides`."""
    words, overrides = _split_overrides(sys.argv[1:] if argv is None else argv, parser)
    arguments = parser.parse_args(words)
    if overrides and "overrides" not in arguments:
        parser.error(f"--config.{overrides[0][0]}: this command takes no config")
    return argparse.Namespace(**vars(arguments) | {"overrides": overrides})


def read_config(arguments: argparse.Namespace) -> ExperimentConfig:
    """The config with its overrides, of a command line that `parse` understood.

    An omitted `--workdir` becomes the folder of the given `config.json`, or runs/NAME OF THE CONFIG. `--print-config`
    ends the program.

    Raises:
        ConfigError: the config file or an override is wrong, or there is no config.
    """
    given, workdir = arguments.config or arguments.default_config, getattr(arguments, "workdir", "")
    if not given:
        if workdir is None:
            raise ConfigError("no config: give --config NAME or FILE, such as demo, or the --workdir of a training")
        path = as_path(workdir) / WORKDIR_CONFIG
        if not path.is_file():
            raise ConfigError(f"{workdir} holds no {WORKDIR_CONFIG}, which a training writes there; give --config")
        arguments.config = given = os.fspath(path)
    config = apply_overrides(load_config(given) if isinstance(given, str) else given, arguments.overrides)
    if arguments.print_config:
        print(describe_config(config))
        sys.exit()
    if workdir is None:
        path = as_path(str(arguments.config))
        arguments.workdir = os.fspath(path.parent) if path.name == WORKDIR_CONFIG else f"runs/{config.name}"
    return config


def add_distributed_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that start several processes as one program; see `start_distributed`."""
    group = parser.add_argument_group("several processes", "see docs/devices/slurm.md")
    add = group.add_argument
    add("--distributed", action="store_true", help="join the processes that Slurm, Kubernetes or Cloud TPU started")
    add("--coordinator", metavar="HOST:PORT", help="address of process 0, on plain machines")
    add("--process-count", type=int, metavar="N", help="number of processes, on plain machines")
    add("--process-id", type=int, metavar="I", help="number of this process from 0, on plain machines")
    wait = "time to wait for the other processes at the start; default: %(default)s"
    add("--wait", type=at_least(1), default=processes.PATIENCE_SECONDS, metavar="SECONDS", help=wait)


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


def height_and_width(text: str) -> tuple[int, int]:
    """Argument type: a picture's size, written as width × height."""
    match = re.fullmatch(r"([1-9]\d*)[xX×]([1-9]\d*)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; allowed: WIDTHxHEIGHT in pixels, such as 481x321")
    return int(match[2]), int(match[1])


def duration(text: str) -> float:
    """An argparse type for finite numbers of at least 0."""
    if not 0 <= float(text) < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return float(text)


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
