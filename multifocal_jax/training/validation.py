"""Scores and sample pictures of the held-out pairs while training goes on."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from multifocal_jax.config import ExperimentConfig
from multifocal_jax.data.sources import PairSource
from multifocal_jax.evaluation.inference import Derainer
from multifocal_jax.evaluation.metrics import score

SAMPLES = 3


class Validation:
    """De-rains the held-out pictures with the weights of the moment; compiled once per size for the whole run."""

    def __init__(self, config: ExperimentConfig, source: PairSource) -> None:
        """Score `source`, which holds one picture or more, in the metric family of `config.eval`."""
        self.config, self.source = config, source
        self.derainer: Derainer | None = None

    def score(self, params: Any, limit: int = 0) -> dict[str, float]:
        """Mean PSNR in dB and SSIM of the results ("psnr", "ssim") and of the rainy inputs ("rainy_psnr", …).

        Every process scores its share; all of them return the means over all pictures.

        Args:
            params: of the network.
            limit: score at most so many pictures; 0 scores all.
        """
        if self.derainer is None:
            self.derainer = Derainer(params, self.config.model, precision=self.config.train.precision)
        self.derainer = self.derainer.with_params(params)
        count = min(limit, len(self.source)) if limit else len(self.source)
        table = np.zeros((count, 4))
        for index in range(jax.process_index(), count, jax.process_count()):
            rainy, clean = self.source.load(index)
            before = score(rainy, clean, self.config.eval.family)
            after = score(self.derainer(rainy), clean, self.config.eval.family)
            table[index] = after.psnr, after.ssim, before.psnr, before.ssim
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            table = multihost_utils.process_allgather(table).sum(0)  # every row was filled by one process
        return dict(zip(("psnr", "ssim", "rainy_psnr", "rainy_ssim"), table.mean(0).tolist(), strict=True))

    def samples(self) -> Iterator[tuple[str, np.ndarray]]:
        """Name and picture, uint8 (H, 3·W, 3), rainy | de-rained | clean, of the first few; call after `score`."""
        assert self.derainer is not None
        for index in range(min(SAMPLES, len(self.source))):
            rainy, clean = self.source.load(index)
            yield self.source.name(index), np.concatenate([rainy, self.derainer(rainy), clean], axis=1)
