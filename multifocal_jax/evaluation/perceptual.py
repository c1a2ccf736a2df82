"""Optional metrics: LPIPS against the ground truth, NIQE without any."""

from collections.abc import Callable, Sequence
from typing import get_args

import numpy as np

from multifocal_jax.config import Perceptual
from multifocal_jax.evaluation import lpips, metrics, niqe
from multifocal_jax.evaluation.metrics import MetricError

PERCEPTUAL: tuple[Perceptual, ...] = get_args(Perceptual)
PERCEPTUAL_TITLES: dict[Perceptual, str] = {
    "lpips": "LPIPS, AlexNet, lower is better (`lpips`)",
    "niqe": "NIQE, lower is better (`niqe`)",
}

Measure = Callable[[np.ndarray, np.ndarray | None], float]  # of a picture and its ground truth, uint8 (H, W, 3)
_CHECKS: dict[Perceptual, Callable[[int, int], None]] = {"lpips": lpips.check_size, "niqe": niqe.check_size}


def open_measures(names: Sequence[Perceptual], truth: bool) -> dict[Perceptual, Measure]:
    """The metrics of these names, ready to be called from several threads; `truth`: there is ground truth.

    Raises:
        MetricError: a metric needs ground truth and there is none, or its library or weights are not available.
    """
    if "lpips" in names and not truth:
        raise MetricError("LPIPS compares with the ground truth, which these pictures lack; leave lpips out")
    measures: dict[Perceptual, Measure] = {}
    if "lpips" in names:
        measures["lpips"] = lpips.open_lpips()
    if "niqe" in names:
        measures["niqe"] = lambda picture, _: niqe.niqe(picture)
    return measures


def check_size(names: Sequence[Perceptual], truth: bool, height: int, width: int) -> None:
    """Raise MetricError for a size too small for one of the metrics, or with ground truth for SSIM."""
    for check in [*[metrics.check_size] * truth, *(_CHECKS[name] for name in names)]:
        check(height, width)
