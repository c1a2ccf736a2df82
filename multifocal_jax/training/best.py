"""The workdir's weights file: the weights with the best score on the held-out pictures, or the last ones."""

import contextlib
import math
import subprocess
import time
from pathlib import Path
from typing import Any

from etils import epath

import multifocal_jax
from multifocal_jax import processes
from multifocal_jax.config import ExperimentConfig
from multifocal_jax.config_files import from_dict, to_dict
from multifocal_jax.errors import UserError
from multifocal_jax.training.checkpoints import scored_alike
from multifocal_jax.training.parallel import to_host
from multifocal_jax.training.state import TrainState
from multifocal_jax.training.validation import Validation
from multifocal_jax.weights import Weights, describe_weights, save_weights
from multifocal_jax.weights_lookup import WORKDIR_FILE


class BestWeights:
    """Scores weights on the held-out pictures, always the same ones, and keeps the best in `file`."""

    def __init__(
        self,
        config: ExperimentConfig,
        workdir: epath.Path,
        validation: Validation | None,
        sources: list[dict[str, Any]],
        resumed: bool,
    ) -> None:
        """Open the workdir; a `resumed` run adopts the score of the workdir's weights if it is comparable.

        `sources` are the fingerprints of the training pictures, for the record.
        """
        self.file = workdir / WORKDIR_FILE
        self.scores: dict[str, float] = {}  # the latest
        self._config, self._validation, self._sources = config, validation, sources
        self._commit = commit_of_package()  # of the code that trains, even if there are commits meanwhile
        self._best = -math.inf
        if validation and resumed:
            with contextlib.suppress(UserError, KeyError):  # there are none, or none that this version wrote
                record = describe_weights(self.file).record
                if scored_alike(from_dict(ExperimentConfig, record["config"]), config):
                    self._best = record["held_out"]["psnr"]

    def score(self, state: TrainState) -> dict[str, float]:
        """Score the weights, see `Validation.score`, and write them if they are the best so far.

        If scoring fails, in all processes alike, they are written if there are none yet.
        """
        assert self._validation is not None
        try:
            self.scores = self._validation.score(to_host(state.weights), self._config.train.eval_limit)
        except Exception:
            if not self.file.exists():
                self.write(state)
            raise
        if self.scores["psnr"] > self._best:
            self._best = self.scores["psnr"]
            self.write(state)
        return self.scores

    def write(self, state: TrainState) -> None:
        """Write the weights, in process 0."""
        if processes.index() != 0:
            return
        step = int(to_host(state.step))
        record = {
            "experiment": self._config.name,
            "config": to_dict(self._config),
            "sources": self._sources,
            "step": step,
            "images": step * self._config.train.batch_size,
            "seed": self._config.train.seed,
            "held_out": self.scores,
            "version": multifocal_jax.__version__,
            "commit": self._commit,
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
        }
        save_weights(self.file, Weights(to_host(state.weights), self._config.model, record))


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
