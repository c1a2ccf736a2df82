"""Where the commands keep compiled programs: below the user's cache folder, or as `MULTIFOCAL_CACHE` says."""

import os
from pathlib import Path

VARIABLE = "MULTIFOCAL_CACHE"


def cache_folder() -> Path | None:
    """The folder that `MULTIFOCAL_CACHE` names, or `~/.cache/multifocal-jax`; None where it says "off"."""
    named = os.environ.get(VARIABLE, "")
    if named == "off":
        return None
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else base / "multifocal-jax"


def keep_programs() -> None:
    """Let pictures be de-rained by programs of earlier runs; see `multifocal_jax.evaluation.programs`."""
    from multifocal_jax.evaluation import programs

    folder = cache_folder()
    programs.keep_in(folder and folder / "programs")
