"""Metrics that are measured when asked for: LPIPS against the ground truth, NIQE without any."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from multifocal_jax.evaluation.metrics import MetricError

Perceptual = Literal["lpips", "niqe"]
PERCEPTUAL: tuple[Perceptual, ...] = ("lpips", "niqe")
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
        MetricError: a metric needs ground truth, and there is none; or its library or weights are not to be had.
    """
    if "lpips" in names and not truth:
        raise MetricError("LPIPS compares with the ground truth, which these pictures lack; leave lpips out")
    return {name: _OPEN[name]() for name in PERCEPTUAL if name in names}


def _open_lpips() -> Measure:
    from multifocal_jax.evaluation.lpips import Lpips

    lpips = Lpips()

    def measure(picture: np.ndarray, clean: np.ndarray | None) -> float:
        assert clean is not None
        return lpips(picture, clean)

    return measure


def _open_niqe() -> Measure:
    from multifocal_jax.evaluation.niqe import niqe

    return lambda picture, clean: niqe(picture)


_OPEN: dict[Perceptual, Callable[[], Measure]] = {"lpips": _open_lpips, "niqe": _open_niqe}
