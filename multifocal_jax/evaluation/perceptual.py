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


def open_measures(names: Sequence[Perceptual], truth: bool) -> dict[Perceptual, Measure]:
    """The metrics of these names, ready to be called from several threads.

    Args:
        names: of the metrics.
        truth: whether there is ground truth.

    Raises:
        MetricError: a metric needs ground truth and there is none, or its library or weights are not available.
    """
    if "lpips" in names and not truth:
        raise MetricError("LPIPS compares with the ground truth, which these pictures lack; leave lpips out")
    return {name: _OPEN[name]() for name in PERCEPTUAL if name in names}


def check_size(names: Sequence[Perceptual], truth: bool, height: int, width: int) -> None:
    """Refuse sizes that are too small for one of the metrics, or for PSNR and SSIM if there is ground truth.

    Raises:
        MetricError: a picture of this size is too small.
    """
    if truth:
        metrics.check_size(height, width)
    for name in names:
        _CHECK[name](height, width)


def _open_lpips() -> Measure:
    network = lpips.Lpips()

    def measure(picture: np.ndarray, clean: np.ndarray | None) -> float:
        assert clean is not None
        return network(picture, clean)

    return measure


def _open_niqe() -> Measure:
    return lambda picture, clean: niqe.niqe(picture)


_CHECK: dict[Perceptual, Callable[[int, int], None]] = {"lpips": lpips.check_size, "niqe": niqe.check_size}
_OPEN: dict[Perceptual, Callable[[], Measure]] = {"lpips": _open_lpips, "niqe": _open_niqe}
