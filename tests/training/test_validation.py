"""Scores of held-out pictures: means, several processes, platforms without a CPU."""

import math

import jax
import numpy as np
import pytest

from multifocal_jax import processes
from multifocal_jax.data.errors import ImageError
from multifocal_jax.data.pipeline import TrainingData
from multifocal_jax.evaluation.inference import Derainer
from multifocal_jax.processes import ProcessesError
from multifocal_jax.training import validation
from multifocal_jax.training.validation import TrainingCrops, Validation


class Noise:
    """Pictures of which the rainy side is the clean one, or is 16 above it in every value."""

    def __init__(self, *above):
        self.above = above

    def __len__(self):
        return len(self.above)

    def name(self, index):
        return f"picture-{index}"

    def load(self, index):
        clean = np.random.default_rng(index).integers(0, 200, (16, 16, 3)).astype(np.uint8)
        if self.above[index] is None:
            raise ImageError("picture cannot be read")
        return clean + np.uint8(self.above[index]), clean


@pytest.fixture
def unchanged(monkeypatch):
    """A network that gives back what it gets."""
    monkeypatch.setattr(Derainer, "__call__", lambda self, image: image)


def test_an_equal_picture_counts_as_100_db(tiny, unchanged):
    scores = Validation(tiny, Noise(0, 51)).score({})
    # a luma that is 51 · 219 / 255 = 43.8 higher, rounded: 43 to 45 per pixel
    assert 100 / 2 + 10 * math.log10((255 / 45) ** 2) / 2 < scores["psnr"] < 50 + 10 * math.log10((255 / 43) ** 2) / 2
    assert scores["rainy_psnr"] == scores["psnr"]
    assert Validation(tiny, Noise(0, 0)).score({})["psnr"] == 100


def test_a_process_that_fails_ends_the_scores_of_all(tiny, unchanged, monkeypatch):
    said = []

    def gather(mine):
        said.append(mine)
        return [mine, others.pop(0)]

    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "gather", gather)
    monkeypatch.setattr(processes._group, "count", 2)
    others = [None, [(1, 20, 0.5, 20, 0.5)]]  # the other process has no problem, and has scored picture 1
    assert Validation(tiny, Noise(0, None)).score({})["psnr"] == 60
    others = ["it has a problem"]
    with pytest.raises(ProcessesError, match="process 1 of 2 cannot continue: it has a problem"):
        Validation(tiny, Noise(0, 0)).score({})
    others = [None]
    with pytest.raises(ImageError, match="picture cannot be read"):
        Validation(tiny, Noise(None, 0)).score({})
    assert said[-1] == "picture cannot be read"  # it told the other


def test_crops_are_cut_where_jax_has_no_cpu(tiny, monkeypatch):
    devices = jax.local_devices

    def without_cpu(*arguments, backend=None, **options):
        if backend == "cpu":
            raise RuntimeError("Unknown backend cpu")
        return devices(*arguments, **options)

    data = TrainingData(tiny.data, batch_size=4, seed=0)
    reference = TrainingCrops(data).load(1)
    monkeypatch.setattr(validation.jax, "local_devices", without_cpu)
    for side, expected in zip(TrainingCrops(data).load(1), reference, strict=True):
        np.testing.assert_array_equal(side, expected)
