"""PSNR and SSIM as the de-raining literature computes them.

Two families of scripts are in use, and their figures differ, so a table must say which it holds:

- `uint8` (the scripts of Rain200H/L and SPA-data, and the paper's figures): luma rounded to integers; SSIM without
  down-sampling.
- `double` (the scripts of PReNet, RCDNet, DID, DDN): luma not rounded; SSIM after a box filter and down-sampling by
  max(1, round(min(H, W) / 256)), as in the first release of Wang's `ssim.m`.

`rgb` scores the three colour channels instead of the luma, without down-sampling.

Luma is BT.601 in studio range, 16 to 235, as MATLAB's `rgb2ycbcr` gives; full-range luma would shift the PSNR by about
1.3 dB. SSIM uses Wang's 11×11 Gaussian window of σ = 1.5, K1 = 0.01, K2 = 0.03, L = 255, over the valid region.
Everything is computed in float64.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.ndimage import correlate1d, uniform_filter

from multifocal_jax.errors import UserError

Family = Literal["uint8", "double", "rgb"]
FAMILIES: tuple[Family, ...] = ("uint8", "double", "rgb")
# The PSNR in dB that an equal picture counts as in a mean: about that of 481×321 with one value off by one.
UNCHANGED = 100.0

# Y = 16 + 255 × (R, G, B in [0, 1]) · LUMA, BT.601 in studio range.
LUMA = np.array([65.481, 128.553, 24.966]) / 255
_PEAK = 255.0
_RADIUS, _SIGMA = 5, 1.5
# SSIM's Gaussian window, 11 taps that sum to 1.
WINDOW = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA) ** 2)
WINDOW /= WINDOW.sum()


class MetricError(UserError):
    """Two pictures cannot be compared. The message says why."""


@dataclass(frozen=True)
class Score:
    """PSNR in dB (infinite for equal pictures) and SSIM in [-1, 1]."""

    psnr: float
    ssim: float


def score(image: np.ndarray, reference: np.ndarray, family: Family = "uint8") -> Score:
    """Compare a picture with its ground truth, both (H, W, 3) uint8 as written to disk, H and W at least 11.

    Raises:
        MetricError: a picture is not (H, W, 3) uint8, the sizes differ, or a side is smaller than SSIM's window.
    """
    for name, value in (("picture", image), ("reference", reference)):
        if value.dtype != np.uint8 or value.ndim != 3 or value.shape[-1] != 3:
            raise MetricError(f"the {name} is {value.dtype} {value.shape}; scores need uint8 (height, width, 3)")
    if image.shape != reference.shape:
        raise MetricError(
            f"the picture has {image.shape[1]}x{image.shape[0]} pixels, its reference "
            f"{reference.shape[1]}x{reference.shape[0]}; both must have one size"
        )
    check_size(*image.shape[:2])
    first, second = (value.astype(np.float64) if family == "rgb" else luma(value) for value in (image, reference))
    if family == "uint8":
        first, second = np.floor(first + 0.5), np.floor(second + 0.5)  # positive: half away from zero
    factor = max(1, math.floor(min(image.shape[:2]) / 256 + 0.5)) if family == "double" else 1
    return Score(psnr(first, second), ssim(_shrink(first, factor), _shrink(second, factor)))


def score_all(image: np.ndarray, reference: np.ndarray) -> dict[Family, Score]:
    """The scores of every family; arguments and errors as for `score`."""
    return {family: score(image, reference, family) for family in FAMILIES}


def luma(image: np.ndarray) -> np.ndarray:
    """Y of BT.601 in studio range, 16 + (65.481 R + 128.553 G + 24.966 B) / 255, of (..., 3) uint8.

    Returns (...) float64 from 16 to 235, not rounded.
    """
    return 16 + image.astype(np.float64) @ LUMA


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of two arrays of one shape and a peak of 255; infinite where they are equal."""
    error = float(np.mean(np.square(first - second)))
    return math.inf if error == 0 else 10 * math.log10(_PEAK**2 / error)


def ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Mean structural similarity (Wang et al., 2004), window and constants as in the module's text.

    Both are planes (H, W), or (H, W, C) for the mean over channels, float64 from 0 to 255, H and W at least 11.
    """
    return 1 - float(np.mean(dissimilarity(first, second, _blur, _PEAK)))


def dissimilarity(first: Any, second: Any, blur: Callable[[Any], Any], peak: float) -> Any:
    """1 − SSIM at every pixel (Wang et al., 2004, eq. 13), for arrays of NumPy or JAX.

    1 − l and 1 − cs, the luminance and the structure term, are computed from the difference of the pictures, so that
    in float32, too, what is left of nearly equal pictures is no rounding.

    Args:
        first, second: arrays of one shape, from 0 to `peak`.
        blur: their mean under the window around every pixel.
        peak: L, the largest value.

    Returns:
        values in [0, 2] in the shape that `blur` returns.
    """
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    difference = first - second
    mean_1, offset = blur(first), blur(difference)
    mean_2, offset_squared = mean_1 - offset, offset * offset
    squares = mean_1 * mean_1 + mean_2 * mean_2
    variances = blur(first * first + second * second) - squares
    luminance = offset_squared / (squares + c1)
    structure = (blur(difference * difference) - offset_squared) / (variances + c2)
    return luminance + structure - luminance * structure


def _blur(plane: np.ndarray) -> np.ndarray:
    """Gaussian window over the valid region: (H, W, ...) to (H − 10, W − 10, ...)."""
    rows = correlate1d(plane, WINDOW, axis=0)[_RADIUS:-_RADIUS]
    return correlate1d(rows, WINDOW, axis=1)[:, _RADIUS:-_RADIUS]


def _shrink(plane: np.ndarray, factor: int) -> np.ndarray:
    """Every factor-th pixel after a box filter of that width, as `ssim.m` has it: imfilter(…, "symmetric", "same").

    A box of even width reaches one pixel further to the right and bottom than to the left and top.
    """
    return uniform_filter(plane, factor, origin=factor % 2 - 1)[::factor, ::factor]


def check_size(height: int, width: int) -> None:
    """Raise MetricError for a size for which there is no SSIM."""
    if min(height, width) < 2 * _RADIUS + 1:
        raise MetricError(f"a picture of {width}x{height} pixels is smaller than SSIM's window of 11x11")
