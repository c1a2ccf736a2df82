"""Scores and sample pictures of the held-out pairs while training goes on."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from multifocal_jax.config import ExperimentConfig
from multifocal_jax.data.pipeline import TrainingData
from multifocal_jax.data.sources import PairSource
from multifocal_jax.evaluation.inference import Derainer
from multifocal_jax.evaluation.metrics import score

SAMPLES = 3


class TrainingCrops:
    """The first crops of the run's first batch as pairs, to look at where no pictures are held out."""

    def __init__(self, data: TrainingData) -> None:
        """Cut them; uint8, on the CPU."""
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            batch = jax.tree.map(lambda value: value[:SAMPLES], next(data.batches(0)))
            pairs = jax.jit(data.prepare)(jax.device_get(data.resident), batch)
        self._rainy, self._clean = (np.round(np.asarray(side) * 255).astype(np.uint8) for side in pairs)

    def __len__(self) -> int:
        return len(self._clean)

    def name(self, index: int) -> str:
        """Says that it is a crop, and which."""
        return f"crop-{index}"

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Rainy and clean, uint8 (crop, crop, 3) each."""
        return self._rainy[index], self._clean[index]


class Validation:
    """De-rains the held-out pictures with the weights of the moment; compiled once, for the whole run."""

    def __init__(self, config: ExperimentConfig, source: PairSource) -> None:
        """Score `source`, which holds one picture or more, in the metric family of `config.eval`."""
        self.config, self.source = config, source
        self._first: Derainer | None = None

    def score(self, params: Any, limit: int = 0) -> dict[str, float]:
        """Mean PSNR in dB and SSIM of the results ("psnr", "ssim") and of the rainy inputs ("rainy_psnr", …).

        Every process scores its share; all of them return the means over all pictures.

        Args:
            params: of the network.
            limit: score at most so many pictures; 0 scores all.
        """
        derainer = self._derainer(params)
        count = min(limit, len(self.source)) if limit else len(self.source)
        table = np.zeros((count, 4))
        for index in range(jax.process_index(), count, jax.process_count()):
            rainy, clean = self.source.load(index)
            before = score(rainy, clean, self.config.eval.family)
            after = score(derainer(rainy), clean, self.config.eval.family)
            table[index] = after.psnr, after.ssim, before.psnr, before.ssim
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            table = multihost_utils.process_allgather(table).sum(0)  # every row was filled by one process
        return dict(zip(("psnr", "ssim", "rainy_psnr", "rainy_ssim"), table.mean(0).tolist(), strict=True))

    def samples(self, params: Any) -> Iterator[tuple[str, np.ndarray]]:
        """Name and picture, uint8 (H, 3·W, 3), rainy | de-rained | clean, of the first few."""
        derainer = self._derainer(params)
        for index in range(min(SAMPLES, len(self.source))):
            rainy, clean = self.source.load(index)
            yield self.source.name(index), np.concatenate([rainy, derainer(rainy), clean], axis=1)

    def _derainer(self, params: Any) -> Derainer:
        if self._first is None:
            self._first = Derainer(params, self.config.model, precision=self.config.train.precision)
        return self._first.with_params(params)
