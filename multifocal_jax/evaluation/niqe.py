"""NIQE, the natural image quality evaluator: how far a picture's statistics are from those of pristine photographs.

Mittal, Soundararajan and Bovik, "Making a completely blind image quality analyzer", IEEE Signal Processing Letters
20(3), 2013. Needs no ground truth. Follows the authors' MATLAB release (LIVE, The University of Texas at Austin), with
its own model of pristine photographs: `niqe_pristine.npz` contains that release's `mu_prisparam` and `cov_prisparam` as
distributed by BasicSR 1.4.2 (Apache-2.0). Maintained libraries download this model.
"""

from functools import lru_cache
from importlib.resources import files

import numpy as np
from scipy.ndimage import correlate1d
from scipy.special import gamma

from multifocal_jax.evaluation.metrics import MetricError

BLOCK = 96  # pixels; the model was estimated on blocks of this size
LEAST_BLOCKS = 2  # the minimum for a covariance

_GREY = np.array([0.298936021293775, 0.587043074451121, 0.114020904255103])  # MATLAB's rgb2gray
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
_WINDOW = np.exp(-0.5 * (np.arange(-3, 4) / (7 / 6)) ** 2)
_WINDOW /= _WINDOW.sum()


def niqe(image: np.ndarray) -> float:
    """Distance from pristine photographs, about 2 to 5 for good ones; lower is better.

    Args:
        image: (H, W, 3) uint8 RGB; cropped to the largest multiples of 96.

    Raises:
        MetricError: it is not (H, W, 3) uint8, has fewer than two blocks of 96×96 pixels, or is flat.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        raise MetricError(f"the picture is {image.dtype} {image.shape}; NIQE needs uint8 (height, width, 3)")
    check_size(*image.shape[:2])
    rows, columns = image.shape[0] // BLOCK, image.shape[1] // BLOCK
    grey = np.floor(image[: rows * BLOCK, : columns * BLOCK] @ _GREY + 0.5)
    features = np.concatenate([_features(grey, BLOCK), _features(_halve(grey), BLOCK // 2)], axis=1)
    whole = features[~np.isnan(features).any(axis=1)]  # flat blocks lack some; the release leaves them out here,
    if len(whole) < LEAST_BLOCKS:
        raise MetricError(
            "the picture is flat nearly everywhere; NIQE cannot measure it; leave the picture or the metric out"
        )
    mean, covariance = _pristine()
    difference = mean - np.nanmean(features, axis=0)  # but not here
    inverse = np.linalg.pinv((covariance + np.cov(whole, rowvar=False)) / 2)
    return float(np.sqrt(difference @ inverse @ difference))


def check_size(height: int, width: int) -> None:
    """Raise MetricError for a size that is too small."""
    if (height // BLOCK) * (width // BLOCK) < LEAST_BLOCKS:
        raise MetricError(
            f"a picture of {width}x{height} pixels is too small for NIQE, which needs two blocks of {BLOCK}x{BLOCK}; "
            "leave the picture or the metric out"
        )


@lru_cache(maxsize=1)
def _pristine() -> tuple[np.ndarray, np.ndarray]:
    """Mean (36,) and covariance (36, 36) of the features of pristine photographs."""
    with (files("multifocal_jax.evaluation") / "niqe_pristine.npz").open("rb") as file, np.load(file) as model:
        return model["mean"], model["covariance"]


def _features(grey: np.ndarray, side: int) -> np.ndarray:
    """The 18 features of every block at one scale: (H, W) to (blocks, 18)."""
    mean = _blur(grey)
    deviation = np.sqrt(np.abs(_blur(grey**2) - mean**2))
    normal = np.round((grey - mean) / (deviation + 1), 9)  # 0 where flat, or the rounding's signs would be counted
    rows, columns = grey.shape[0] // side, grey.shape[1] // side
    blocks = normal.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)
    shape, left, right = _asymmetric_gaussian(blocks)
    features = [shape, (left + right) / 2]
    for shift in _NEIGHBOURS:
        shape, left, right = _asymmetric_gaussian(blocks * np.roll(blocks, shift, axis=(1, 2)))
        features += [shape, (right - left) * gamma(2 / shape) / gamma(1 / shape), left, right]
    return np.stack(features, axis=1)


def _asymmetric_gaussian(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shape, left and right scale of the asymmetric generalised Gaussian with each block's moments."""
    with np.errstate(invalid="ignore", divide="ignore"):
        below, above = blocks < 0, blocks > 0
        squares = blocks**2
        left = np.sqrt((squares * below).sum((1, 2)) / below.sum((1, 2)))
        right = np.sqrt((squares * above).sum((1, 2)) / above.sum((1, 2)))
        ratio = left / right
        moment = np.abs(blocks).mean((1, 2)) ** 2 / squares.mean((1, 2))
        moment *= (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shapes, moments = _shapes()
    nearest = np.searchsorted((moments[1:] + moments[:-1]) / 2, moment)  # moments ascend
    shape = shapes[np.where(np.isnan(moment), 0, nearest)]  # a flat block's is the first, as MATLAB's `min` has it
    scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, left * scale, right * scale


@lru_cache(maxsize=1)
def _shapes() -> tuple[np.ndarray, np.ndarray]:
    """Candidate shape parameters, and E|x|² / E x² of a Gaussian of each."""
    shapes = np.arange(0.2, 10.001, 0.001)
    return shapes, gamma(2 / shapes) ** 2 / (gamma(1 / shapes) * gamma(3 / shapes))


def _blur(plane: np.ndarray) -> np.ndarray:
    """Gaussian window of 7×7 pixels, σ = 7/6, over a plane whose edges are repeated."""
    return correlate1d(correlate1d(plane, _WINDOW, axis=0, mode="nearest"), _WINDOW, axis=1, mode="nearest")


def _halve(plane: np.ndarray) -> np.ndarray:
    """Half the size as MATLAB's `imresize`: the bicubic kernel (a = −½) stretched to twice its width."""
    near, far = np.array([0.25, 0.75]), np.array([1.25, 1.75])
    half = np.concatenate([1.5 * near**3 - 2.5 * near**2 + 1, -0.5 * far**3 + 2.5 * far**2 - 4 * far + 2]) / 2
    for axis in (0, 1):  # "reflect" is SciPy's name of repeating the edge, too; of 8 taps the fifth lies on the pixel
        filtered = correlate1d(plane, [*half[::-1], *half], axis=axis, mode="reflect", origin=-1)
        plane = filtered[::2] if axis == 0 else filtered[:, ::2]
    return plane
