"""The contents of every training batch, as a function of (seed, t) alone.

Plain NumPy with random access in t: there is no state between batches, so a run can resume at any step, every process
computes its own share, and the number of workers does not matter. Random numbers are hashes of (seed, purpose, index)
rather than draws from a generator, so they are the same with every version of NumPy.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# Purposes of random numbers. Changing them changes every run.
_ORDER, _TOP, _LEFT, _FLIP, _TURN = range(5)

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(bits: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele et al., 2014): a bijection of 64 bits that spreads every bit over all."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def hash_bits(seed: int, purpose: int, group: int, index: np.ndarray) -> np.ndarray:
    """64 random bits, uint64, for every index (integers of any shape), independent over seeds, purposes and groups.

    A group is a number that distinguishes whole arrays, such as the epoch.
    """
    with np.errstate(over="ignore"):
        state = np.zeros(1, np.uint64)
        for part in (seed, purpose, group):
            state = _mix(state + _GOLDEN * np.uint64((part + 1) % 2**64))
        return _mix(state + _GOLDEN * (np.asarray(index).astype(np.uint64) + np.uint64(1)))


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order in which an epoch visits its `count` entries: a permutation, int64 (count,)."""
    return np.argsort(hash_bits(seed, _ORDER, epoch, np.arange(count)), kind="stable")


@dataclass(frozen=True)
class Samples:
    """A run of crops; arrays of one length. Positions are random bits until the size of the picture is known."""

    entry: np.ndarray  # which of the epoch's entries, int64
    index: np.ndarray  # number of the crop, counted from the start of training, int64
    top: np.ndarray  # random bits, uint64
    left: np.ndarray  # random bits, uint64
    flip: np.ndarray  # 1 mirrors left and right, uint8
    turns: np.ndarray  # quarter turns anticlockwise after the mirror, 0 to 3, uint8


@dataclass(frozen=True)
class BatchPlan:
    """Which crops are in batch t.

    Crops are numbered from the start of training; batch t contains numbers t·B to (t + 1)·B − 1, so every entry is used
    exactly once per epoch, and a batch may extend into the next epoch.
    """

    entries: int  # pictures per epoch, including repeats
    batch_size: int  # over all processes
    seed: int
    flips: bool = False
    rotations: bool = False

    def batch(self, t: int, rows: tuple[int, int] | None = None) -> Samples:
        """Global batch `t`, or its rows from `rows[0]` to `rows[1]` (excluded)."""
        start, stop = rows or (0, self.batch_size)
        return self.samples(np.arange(t * self.batch_size + start, t * self.batch_size + stop, dtype=np.int64))

    def samples(self, index: np.ndarray) -> Samples:
        """The crops of these numbers, int64 (n,), in ascending order."""
        epochs, places = np.divmod(index, self.entries)
        entry = np.empty_like(index)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            chosen = epochs == epoch
            entry[chosen] = epoch_order(self.seed, epoch, self.entries)[places[chosen]]
        none = np.zeros(len(index), np.uint8)
        return Samples(
            entry=entry,
            index=index,
            top=hash_bits(self.seed, _TOP, 0, index),
            left=hash_bits(self.seed, _LEFT, 0, index),
            flip=(hash_bits(self.seed, _FLIP, 0, index) % np.uint64(2)).astype(np.uint8) if self.flips else none,
            turns=(hash_bits(self.seed, _TURN, 0, index) % np.uint64(4)).astype(np.uint8) if self.rotations else none,
        )


def crop_start(bits: np.ndarray, length: np.ndarray, crop: int) -> np.ndarray:
    """First row or column of a crop of `crop` pixels in pictures of `length` pixels, uniform over all that fit."""
    return (bits % (np.asarray(length).astype(np.uint64) - np.uint64(crop) + np.uint64(1))).astype(np.int64)
