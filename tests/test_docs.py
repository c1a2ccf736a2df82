"""The commands that the documentation shows are understood; their configs exist and their overrides are allowed."""

import re
import shlex
from pathlib import Path

import pytest

from multifocal_jax.cli.main import understand
from multifocal_jax.config_files import apply_overrides, load_config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = {"train.py": "train", "evaluate.py": "evaluate", "convert_weights.py": "convert", "derain": "derain"}


def commands_of(page: Path) -> list[tuple[str, list[str]]]:
    """Program and words of every command of ours in a page's code blocks; those with gaps are left out."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    ours = re.compile(r"(?:.*?\bpython |.*\| |srun )?(\w+\.py|derain|multifocal) ([^|>…[]*)(?:[|>].*)?")
    found = [match.groups() for line in lines if (match := ours.fullmatch(line.partition(" # ")[0]))]
    known = [(program, shlex.split(words)) for program, words in found if program in {*PROGRAMS, "multifocal"}]
    return [(program, words) for program, words in known if not words[-1].startswith("--list-")]


COMMANDS = [(page, *command) for page in PAGES for command in commands_of(page)]


def test_pages_hold_commands():
    assert len(COMMANDS) > 50
    assert {"README.md", "training.md", "interop.md", "general-small.md"} <= {page.name for page, *_ in COMMANDS}
    assert {program for _, program, _ in COMMANDS} == {*PROGRAMS, "multifocal"}


@pytest.mark.parametrize(("page", "program", "words"), COMMANDS, ids=lambda value: getattr(value, "stem", "command"))
def test_commands_are_understood(page, program, words, monkeypatch):
    monkeypatch.chdir(ROOT)
    arguments = understand(words, PROGRAMS.get(program, ""))
    name = getattr(arguments, "config", None)
    if name and name != "mine.py":  # which the page shows
        config = load_config(name)
        assert (apply_overrides(config, arguments.overrides) == config) == (not arguments.overrides)
