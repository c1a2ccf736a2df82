"""Enlarging pictures to the multiples of pixels that the network takes."""

import numpy as np


def round_up(length: int, multiple: int) -> int:
    """The next multiple, or the length itself if it is one."""
    return -(-length // multiple) * multiple


def pad_to_multiple(images: np.ndarray, multiple: int) -> np.ndarray:
    """Reflect (B, H, W, C) at the right and the bottom up to the next multiple; without need it is not copied."""
    _, h, w, _ = images.shape
    bottom, right = round_up(h, multiple) - h, round_up(w, multiple) - w
    if not bottom and not right:
        return images
    return np.pad(images, ((0, 0), (0, bottom), (0, right), (0, 0)), mode="reflect")
