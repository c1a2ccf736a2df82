"""The commit of the code that trains."""

import subprocess
from pathlib import Path

import multifocal_jax


def commit_of_package() -> str | None:
    """The commit of this project's checkout if the package runs from it; None if it is installed elsewhere."""
    folder = Path(multifocal_jax.__file__).resolve().parent
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "--show-toplevel", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
            timeout=5,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    top, commit = found.stdout.splitlines()
    return commit if Path(top) == folder.parent else None
