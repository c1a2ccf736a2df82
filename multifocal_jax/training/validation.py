"""Scores and sample pictures of the held-out pairs during training."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from multifocal_jax import processes
from multifocal_jax.config import ExperimentConfig
from multifocal_jax.data.pipeline import TrainingData
from multifocal_jax.data.sources import PairSource
from multifocal_jax.errors import UserError
from multifocal_jax.evaluation.inference import Derainer, TooLargeError
from multifocal_jax.evaluation.metrics import UNCHANGED, score

SAMPLES = 3
SMALLEST = 11  # side in pixels of SSIM's window, and so of the pictures that `score` takes


class ValidationError(UserError):
    """A held-out picture cannot be scored. The message names it, the reason and what would work."""


class TrainingCrops:
    """The first crops of the run's first batch as pairs, shown if no pictures are held out."""

    def __init__(self, data: TrainingData) -> None:
        """Cut them; uint8, on the CPU if JAX can use it."""
        with jax.default_device(_cpu()):
            batch = jax.tree.map(lambda value: value[:SAMPLES], next(data.batches(0)))
            pairs = jax.jit(data.prepare)(jax.device_get(data.resident), batch)
        self._rainy, self._clean = (np.round(np.asarray(side) * 255).astype(np.uint8) for side in pairs)

    def __len__(self) -> int:
        return len(self._clean)

    def name(self, index: int) -> str:
        return f"crop-{index}"

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self._rainy[index], self._clean[index]


def _cpu() -> Any:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS names others alone
        return jax.local_devices()[0]


class Validation:
    """De-rains the held-out pictures with the current weights; compiled once for the whole run."""

    def __init__(self, config: ExperimentConfig, source: PairSource) -> None:
        """Score `source`, which holds one picture or more, in the metric family and with the tiles of `config.eval`.

        Raises:
            InferenceError: the tiles are not possible.
        """
        self.config, self.source = config, source
        self._blank = Derainer(
            {},
            config.model,
            precision=config.train.precision,
            tile=config.eval.tile,
            overlap=config.eval.overlap,
        )

    def score(self, params: Any, limit: int = 0) -> dict[str, float]:
        """Mean PSNR in dB and SSIM of the results ("psnr", "ssim") and of the rainy inputs ("rainy_psnr", …).

        Two equal pictures count as `UNCHANGED` dB, so that the mean is finite. Every process scores its share; all of
        them return the means over all pictures, or all raise.

        Args:
            params: of the network.
            limit: score at most this many pictures; 0 scores all.

        Raises:
            ValidationError: a picture does not fit into memory.
            ImageError: a picture cannot be read.
            ProcessesError: another process failed.
        """
        derainer = self._blank.with_params(params)
        count = min(limit, len(self.source)) if limit else len(self.source)
        with processes.together():
            mine = range(processes.index(), count, processes.count())
            scores = [(index, *self._score(derainer, index)) for index in mine]
        table = sorted(row for share in processes.gather(scores) for row in share)
        _, *means = np.mean(table, axis=0).tolist()
        return dict(zip(("psnr", "ssim", "rainy_psnr", "rainy_ssim"), means, strict=True))

    def samples(self, params: Any) -> Iterator[tuple[str, np.ndarray]]:
        """Name and picture, uint8 (H, 3·W, 3), rainy | de-rained | clean, of the first few; errors as for `score`."""
        derainer = self._blank.with_params(params)
        for index in range(min(SAMPLES, len(self.source))):
            rainy, clean = self.source.load(index)
            yield self.source.name(index), np.concatenate([rainy, self._derain(derainer, index, rainy), clean], axis=1)

    def _score(self, derainer: Derainer, index: int) -> tuple[float, float, float, float]:
        rainy, clean = self.source.load(index)
        before = score(rainy, clean, self.config.eval.family)
        after = score(self._derain(derainer, index, rainy), clean, self.config.eval.family)
        return min(after.psnr, UNCHANGED), after.ssim, min(before.psnr, UNCHANGED), before.ssim

    def _derain(self, derainer: Derainer, index: int, rainy: np.ndarray) -> np.ndarray:
        try:
            return derainer(rainy)
        except TooLargeError as error:
            advice = error.advice("eval.tile=")
            raise ValidationError(f"held-out picture {self.source.name(index)}: {advice}") from None
