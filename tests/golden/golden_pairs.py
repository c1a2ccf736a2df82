"""Pairs for the metrics' golden values: photographs from scikit-image's wheel under rain made by a formula."""

import hashlib

import numpy as np


def golden_pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Rainy and clean, uint8 (H, W, 3), by name."""
    from skimage import data

    coffee, astronaut = data.coffee(), data.astronaut()
    clean = {
        "481x321": coffee[50:371, 60:541],
        "321x481": np.ascontiguousarray(coffee[20:341, 100:581].swapaxes(0, 1)),
        "512x512": astronaut,
    }
    return {name: (_rain(picture), picture) for name, picture in clean.items()}


def digest(pair: tuple[np.ndarray, np.ndarray]) -> str:
    """Tells whether a pair is the one that the golden values were made of."""
    return hashlib.sha256(pair[0].tobytes() + pair[1].tobytes()).hexdigest()


def _rain(clean: np.ndarray) -> np.ndarray:
    """Slanting bright streaks and a little noise, in integers alone."""
    rows, columns = np.indices(clean.shape[:2])
    lane = (3 * columns + rows) // 4
    streak = np.where((lane * 2654435761 >> 7) % 9 == 0, 40 + (rows * 5 + lane * 17) % 90, 0)
    noise = ((rows * 73856093 ^ columns * 19349663) >> 5) % 13 - 6
    return np.clip(clean.astype(np.int64) + (streak + noise)[..., None], 0, 255).astype(np.uint8)
