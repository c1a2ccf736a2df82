"""The command `multifocal` with its subcommands; shells complete it (PYTHON_ARGCOMPLETE_OK)."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

import multifocal_jax
from multifocal_jax.cli.flags import exit_on_user_error, parse
from multifocal_jax.cli.machine import use_large_pages

# Modules of this package. The docstring of each is its help, `add_arguments(parser)` adds its arguments and sets
# `run(arguments)`, which returns the exit status; nothing heavy may be imported before that is called.
COMMANDS = (
    *("derain", "train", "evaluate", "convert", "verify", "export"),
    *("data", "rain", "paper", "cost", "release", "web"),
)


def run(argv: Sequence[str] | None = None, name: str = "") -> int:
    """Run a command.

    Args:
        argv, name: see `understand`.

    Returns:
        The exit status.

    Raises:
        UserError: the command failed; the message says why.
    """
    arguments = understand(argv, name)
    return arguments.run(arguments)


def understand(argv: Sequence[str] | None = None, name: str = "") -> argparse.Namespace:
    """Parse a command line; `--help` and wrong usage end the program.

    Args:
        argv: the command line without the program's name; None means the process's.
        name: the subcommand, if the program is that alone; otherwise the first word names it.

    Returns:
        The arguments; `run(arguments)` of them runs the command.
    """
    words, program = list(sys.argv[1:] if argv is None else argv), None
    if not name and words and words[0] in COMMANDS:
        name, *words = words
        program = f"multifocal {name}"
    parser = _fill(argparse.ArgumentParser(program), _module(name)) if name else _contents()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    return parse(parser, words)


def _contents() -> argparse.ArgumentParser:
    """The parser of all subcommands, which shows their help and completes their words."""
    parser = argparse.ArgumentParser(
        prog="multifocal", description=multifocal_jax.__doc__, epilog="`multifocal COMMAND --help` shows examples."
    )
    parser.add_argument("--version", action="version", version=multifocal_jax.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    for module in map(_module, COMMANDS):
        title = str(module.__doc__).splitlines()[0]
        name = module.__name__.rpartition(".")[2]
        _fill(commands.add_parser(name, help=title[0].lower() + title[1:].removesuffix(".")), module)
    return parser


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"multifocal_jax.cli.{name}")


def _fill(parser: argparse.ArgumentParser, module: ModuleType) -> argparse.ArgumentParser:
    parser.description, _, parser.epilog = str(module.__doc__).strip().partition("\n\n")
    parser.formatter_class, parser.allow_abbrev = argparse.RawDescriptionHelpFormatter, False
    module.add_arguments(parser)
    return parser


def main(name: str = "") -> None:
    """Entry point of `multifocal`, or of a program that is one of its subcommands."""
    if (name or "".join(sys.argv[1:2])) == "train":
        use_large_pages()
    exit_on_user_error(lambda: run(name=name))


def derain() -> None:
    """Entry point of `derain`."""
    main("derain")


if __name__ == "__main__":
    main()
