"""Checks whether the two sides of a pair belong together, from what rain can and cannot do to a picture.

Rain adds thin bright streaks; a veil or another exposure changes brightness slowly. Neither moves the picture, so
phase correlation finds the two sides of a true pair at displacement 0 with a clear peak. Thresholds are measured: on
Rain100L, Rain800 and synthesised heavy rain (481×321) the peak of a true pair is at least 0.23, that of two different
pictures at most 0.03; see docs/data.md.
"""

import numpy as np
from scipy.ndimage import uniform_filter
from scipy.stats import skew

_PEAK = 0.08  # phase correlation of one scene under rain
_CHANCE = 12.0  # a peak by chance, in units of 1/√pixels, for pictures so small that it exceeds the above
_SKEW = -0.1  # of the fine detail of rainy − clean; a true pair's is positive, as streaks are bright and thin
_LUMA = np.array([0.299, 0.587, 0.114])


def find_fault(rainy: np.ndarray, clean: np.ndarray) -> tuple[str, str] | None:
    """What is wrong with a pair, of uint8 (H, W, 3): "different", "misaligned" or "swapped", with details; or None."""
    wet, dry = rainy @ _LUMA, clean @ _LUMA
    if wet.std() < 1 or dry.std() < 1:
        return None  # nothing to compare in a uniform picture
    down, right, peak = displacement(wet, dry)
    if peak < max(_PEAK, _CHANCE / np.sqrt(wet.size)):
        return "different", f"the two sides show different pictures (phase correlation {peak:.2f})"
    if (down, right) != (0, 0):
        return "misaligned", f"the rainy side is moved by {down} pixels down and {right} right"
    difference = wet - dry
    detail = difference - uniform_filter(difference, 9, mode="nearest")
    if detail.any() and skew(detail.ravel()) < _SKEW and _roughness(wet) < _roughness(dry):
        return "swapped", "the clean side has the bright streaks"
    return None


def displacement(moved: np.ndarray, fixed: np.ndarray) -> tuple[int, int, float]:
    """By how many pixels, down and right, `moved` is off `fixed`, and the peak of their phase correlation.

    The peak is 1 for equal pictures. After Kuglin and Hines, The phase correlation image alignment method, 1975.
    """
    height, width = fixed.shape
    window = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[1:-1]
    spectrum = np.fft.rfft2((moved - moved.mean()) * window) * np.fft.rfft2((fixed - fixed.mean()) * window).conj()
    correlation = np.fft.irfft2(spectrum / np.maximum(np.abs(spectrum), 1e-9), (height, width))
    row, column = np.unravel_index(correlation.argmax(), correlation.shape)
    down = int((row + height // 2) % height - height // 2)
    right = int((column + width // 2) % width - width // 2)
    return down, right, float(correlation.max())


def _roughness(image: np.ndarray) -> float:
    return float(np.abs(np.diff(image, axis=0)).mean() + np.abs(np.diff(image, axis=1)).mean())
