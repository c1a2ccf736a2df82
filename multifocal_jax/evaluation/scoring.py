"""All measurements on one picture."""

from collections.abc import Mapping

import numpy as np

from multifocal_jax.evaluation.metrics import MetricError, score_all
from multifocal_jax.evaluation.perceptual import Measure, Perceptual
from multifocal_jax.evaluation.report import PictureScores


def score_picture(
    name: str,
    rainy: np.ndarray,
    result: np.ndarray,
    clean: np.ndarray | None,
    measures: Mapping[Perceptual, Measure],
) -> PictureScores:
    """Score a rainy picture and its de-rained result.

    Args:
        name: of the picture.
        rainy: (H, W, 3) uint8.
        result: the de-rained picture, likewise.
        clean: the ground truth, likewise; if None, PSNR and SSIM are left out.
        measures: further metrics, from `open_measures`.

    Raises:
        MetricError: the picture cannot be scored; names it.
    """
    try:
        before, after = ({}, {}) if clean is None else (score_all(rainy, clean), score_all(result, clean))
        perceptual: dict[Perceptual, tuple[float, float]] = {
            key: (measure(rainy, clean), measure(result, clean)) for key, measure in measures.items()
        }
    except MetricError as error:
        raise MetricError(f"{name}: {error}") from None
    height, width, _ = rainy.shape
    return PictureScores(name, width, height, before, after, perceptual)
