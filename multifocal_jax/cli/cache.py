"""Where the commands cache compiled programs: in the user's cache folder, or as `MULTIFOCAL_CACHE` says."""

import contextlib
import hashlib
import os
from pathlib import Path

VARIABLE = "MULTIFOCAL_CACHE"


def cache_folder() -> Path | None:
    """The folder that `MULTIFOCAL_CACHE` names, or `~/.cache/multifocal-jax`; None if it is "off" or there is no ~."""
    if named := os.environ.get(VARIABLE):
        return None if named == "off" else Path(named)
    with contextlib.suppress(RuntimeError):  # a user without a home
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "multifocal-jax"
    return None


def keep_programs() -> None:
    """Cache programs for de-raining between runs; see `multifocal_jax.evaluation.programs`."""
    from multifocal_jax.evaluation import programs

    folder = cache_folder()
    programs.keep_in(folder and folder / "programs")


def keep_compiled_steps() -> None:
    """Let JAX cache what it compiles for a training, unless `JAX_COMPILATION_CACHE_DIR` is set; see JAX's docs."""
    import jax

    from multifocal_jax.evaluation.programs import processor

    folder = cache_folder()
    if folder and not jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]
        # code for one processor may not run on another that shares the home folder
        kind = hashlib.sha256(processor().encode()).hexdigest()[:12]
        jax.config.update("jax_compilation_cache_dir", str(folder / "steps" / kind))
