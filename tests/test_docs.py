"""The commands that the documentation shows: their configs exist and their overrides are allowed together."""

import re
import shlex
from pathlib import Path

import pytest

from multifocal_jax.config_files import apply_overrides, load_config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands_of(page: Path) -> list[list[str]]:
    """The words of every command in a page's code blocks that names a config."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if "--config " in line and "--config …" not in line]


COMMANDS = [(page, words) for page in PAGES for words in commands_of(page)]


def test_pages_hold_commands():
    assert len(COMMANDS) > 20
    assert {"README.md", "training.md", "general-small.md"} <= {page.name for page, _ in COMMANDS}


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda value: getattr(value, "stem", "command"))
def test_configs_and_overrides_in_commands_are_allowed(page, words):
    name = words[words.index("--config") + 1]
    overrides = [word.removeprefix("--config.") for word in words if word.startswith("--config.")]
    assert all("=" in override for override in overrides)
    config = load_config(str(ROOT / name))
    changed = apply_overrides(config, [tuple(override.split("=", 1)) for override in overrides])
    assert (changed == config) == (not overrides)
