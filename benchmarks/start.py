"""Whole processes, without and with what earlier starts kept: a picture, a folder, the first training step."""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.processes import SideError, seconds_of_command
from benchmarks.timing import Times
from benchmarks.work import Work
from multifocal_jax.config_files import to_dict
from multifocal_jax.weights import Weights, save_weights

FOLDER = ((321, 481), (481, 321), (384, 512), (300, 400), (480, 640))  # sizes of a folder's pictures, four of each


def time_starts(work: Work, rounds: int) -> list[Times]:
    """Whole runs of one command: the very first one, and later ones."""
    first, second = Times("this project, first start"), Times("this project, later starts")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        cache = {"MULTIFOCAL_CACHE": str(root / "cache")}
        try:
            for number in range(rounds + 1):
                out = root / f"out{number}"
                command = [sys.executable, "-m", "multifocal_jax.cli.main", *_command(work, root), str(out), "--quiet"]
                seconds = seconds_of_command(command, work.platform, **cache)
                (second if number else first).seconds.append(seconds)
        except SideError as error:
            (second if first.seconds else first).failed = str(error)
    return [second, first]


def _command(work: Work, root: Path) -> list[str]:
    """Of `derain` or `train`, but for what is written to."""
    if work.task == "training":
        fields = {f"model.{name}": value for name, value in to_dict(work.model).items()}
        fields |= {"data.crop_size": work.height, "train.batch_size": work.batch, "train.steps": 1}
        given = [f"--config.{name}={value}" for name, value in fields.items()]
        return ["train", "--config", "demo", *given, "--workdir"]
    pictures, weights = root / "pictures", root / "weights.safetensors"
    if not weights.exists():
        from multifocal_jax.models import initial_parameters

        pictures.mkdir()
        sizes = [(work.height, work.width)] if work.batch == 1 else [FOLDER[n % len(FOLDER)] for n in range(work.batch)]
        for number, (height, width) in enumerate(sizes):
            picture = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(picture).save(pictures / f"{number}.png")
        save_weights(weights, Weights(initial_parameters(work.model, 0), work.model, {}))
    return ["derain", str(pictures), "--weights", str(weights), "-o"]
