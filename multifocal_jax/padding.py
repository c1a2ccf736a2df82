"""Padding of pictures to the multiples of pixels that the network requires."""

import numpy as np


def round_up(length: int, multiple: int) -> int:
    """The next multiple, or the length itself if it is one."""
    return -(-length // multiple) * multiple


def pad_to_multiple(images: np.ndarray, multiple: int) -> np.ndarray:
    """Pad (B, H, W, C) by reflection at the right and bottom to the next multiple; copies only if it must."""
    _, h, w, _ = images.shape
    bottom, right = round_up(h, multiple) - h, round_up(w, multiple) - w
    if not bottom and not right:
        return images
    return np.pad(images, ((0, 0), (0, bottom), (0, right), (0, 0)), mode="reflect")
