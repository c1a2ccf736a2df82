"""Finding pictures of the same scene: a perceptual hash to find candidates, a thumbnail to confirm them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.fft import dctn

_SIDE = 32  # pixels of the thumbnail
_BITS = 64
_DISTANCE = 14  # hashes of the same scene, scaled or compressed, differ in at most this many of 64 bits
_CORRELATION = 0.95  # the least correlation of thumbnails of the same scene


@dataclass(frozen=True)
class Fingerprints:
    """Fingerprints of n pictures."""

    hashes: np.ndarray  # uint64 (n,)
    thumbnails: np.ndarray  # float32 (n, 1024), of zero mean and unit length

    @classmethod
    def of(cls, thumbnails: list[np.ndarray]) -> "Fingerprints":
        """Compute them from the result of `thumbnail` for each picture."""
        stacked = np.asarray(thumbnails, np.float32).reshape(len(thumbnails), _SIDE, _SIDE)  # of none, too
        flat = stacked.reshape(len(stacked), _SIDE**2)
        flat = flat - flat.mean(axis=1, keepdims=True)
        return cls(_hash(stacked), flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6))


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Luma of a picture, uint8 (H, W, 3), averaged to 32×32 regardless of its shape; float32."""
    small = Image.fromarray(image).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32)


def same_scene(one: Fingerprints, other: Fingerprints) -> Iterator[tuple[int, int]]:
    """Pairs of indices whose pictures show the same scene, even if one of them is mirrored left to right."""
    mirrored = Fingerprints.of([flat.reshape(_SIDE, _SIDE)[:, ::-1] for flat in other.thumbnails])
    for index in range(len(one.hashes)):
        found: set[int] = set()
        for candidates in (other, mirrored):
            near = np.flatnonzero(np.bitwise_count(candidates.hashes ^ one.hashes[index]) <= _DISTANCE)
            alike = candidates.thumbnails[near] @ one.thumbnails[index] >= _CORRELATION
            found.update(near[alike].tolist())
        yield from ((index, match) for match in sorted(found))


def _hash(thumbnails: np.ndarray) -> np.ndarray:
    """The signs of the 64 lowest frequencies of the cosine transform about their median (pHash)."""
    # Row 0 and column 0 are left out, since many photographs share a gradient from sky to ground.
    low = np.asarray(dctn(thumbnails, axes=(1, 2)))[:, 1:9, 1:9].reshape(len(thumbnails), _BITS)
    signs = low > np.median(low, axis=1, keepdims=True)
    return (signs.astype(np.uint64) << np.arange(_BITS, dtype=np.uint64)).sum(axis=1, dtype=np.uint64)
