"""Splitting a picture into overlapping tiles and blending the results without seams."""

import math
from collections.abc import Callable

import numpy as np


def starts(length: int, tile: int, overlap: int, multiple: int) -> list[int]:
    """First positions of the tiles along one axis: ascending, evenly spread, from 0 to `length - tile`.

    Args:
        length: of the axis; a multiple of `multiple`.
        tile: side of a tile, likewise, at most `length`.
        overlap: smallest overlap of neighbours, below `tile`.
        multiple: positions are multiples of this, so that the pyramid's grids lie as in the whole picture.
    """
    step = max(multiple, (tile - overlap) // multiple * multiple)
    count = math.ceil((length - tile) / step) + 1
    spread = [round(i * (length - tile) / max(1, count - 1) / multiple) * multiple for i in range(count)]
    return sorted(set(spread))


def side_within(pixels: int, height: int, width: int) -> int:
    """Side of the largest tile of a picture with at most this many pixels, a multiple of 64; may be 0.

    Only the part of a tile inside the picture counts.
    """
    short = min(height, width)
    side = math.isqrt(pixels) if pixels < short**2 else pixels // short
    return side // 64 * 64


def blend_tiles(
    function: Callable[[np.ndarray], np.ndarray], batch: np.ndarray, tile: int, overlap: int, multiple: int
) -> np.ndarray:
    """Apply a function tile by tile; where tiles overlap, their results are blended linearly.

    Args:
        function: maps (B, h, w, 3) to (B, h, w, 3) floats.
        batch: (B, H, W, 3); H and W multiples of `multiple`.
        tile: side of the square tiles, a multiple of `multiple`; sides longer than the picture's are cut to it.
        overlap: smallest overlap of neighbours in pixels, below `tile`.
        multiple: see `starts`.

    Returns:
        (B, H, W, 3) in the function's dtype.
    """
    sides = [min(tile, length) for length in batch.shape[1:3]]
    rows, columns = (starts(n, s, overlap, multiple) for n, s in zip(batch.shape[1:3], sides, strict=True))
    weight = np.outer(*(_fade(side, overlap) for side in sides))[:, :, None]
    total, weights = None, np.zeros((*batch.shape[1:3], 1), np.float32)
    for row in rows:
        for column in columns:
            window = (slice(row, row + sides[0]), slice(column, column + sides[1]))
            result = function(batch[:, *window])
            if total is None:
                total = np.zeros(batch.shape, result.dtype)
            total[:, *window] += result * weight.astype(result.dtype)
            weights[window] += weight
    assert total is not None
    total /= weights
    return total


def _fade(side: int, overlap: int) -> np.ndarray:
    """Weights along one side of a tile: 1 in the middle, falling to nearly 0 over `overlap` pixels at the ends."""
    distance = np.minimum(np.arange(1, side + 1), np.arange(side, 0, -1))
    return np.minimum(1, distance / (overlap + 1)).astype(np.float32)
