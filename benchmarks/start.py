"""From the start of a process to the first de-rained picture on disk, without and with what earlier starts kept."""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.processes import SideError, seconds_of_command
from benchmarks.timing import Times
from benchmarks.work import Work
from multifocal_jax.weights import Weights, save_weights


def time_starts(work: Work, rounds: int) -> list[Times]:
    """Whole runs of `derain` on one picture: the very first one, and later ones."""
    first, second = Times("this project, first start"), Times("this project, later starts")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write_inputs(root, work)
        command = [sys.executable, "-m", "multifocal_jax.cli.main", "derain", str(root / "rainy.png"), "--overwrite"]
        command += ["--quiet", "-o", str(root / "clean.png"), "--weights", str(root / "weights.safetensors")]
        cache = {"MULTIFOCAL_CACHE": str(root / "cache")}
        try:
            first.seconds.append(seconds_of_command(command, work.platform, **cache))
            for _ in range(rounds):
                second.seconds.append(seconds_of_command(command, work.platform, **cache))
        except SideError as error:
            (second if first.seconds else first).failed = str(error)
    return [second, first]


def _write_inputs(root: Path, work: Work) -> None:
    """A picture and weights."""
    from multifocal_jax.models import initial_parameters

    picture = np.random.default_rng(0).integers(0, 256, (work.height, work.width, 3), dtype=np.uint8)
    Image.fromarray(picture).save(root / "rainy.png")
    params = initial_parameters(work.model, 0)
    save_weights(root / "weights.safetensors", Weights(params, work.model, {}))
