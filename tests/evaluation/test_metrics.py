"""Metrics against golden values by GNU Octave and scikit-image (tests/golden/make_metrics.py) and by hand."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from multifocal_jax.evaluation.metrics import FAMILIES, MetricError, luma, score, score_all
from tests.golden.golden_pairs import digest, golden_pairs

GOLDEN = Path(__file__).parents[1] / "golden"

VALUES = json.loads((GOLDEN / "metrics.json").read_text())


@pytest.fixture(scope="module")
def pairs():
    return golden_pairs()


@pytest.mark.parametrize("name", VALUES["pairs"])
def test_golden_values(pairs, name):
    golden = VALUES["pairs"][name]
    assert digest(pairs[name]) == golden["sha256"], "the pictures are not those that the values were made of"
    scores = score_all(*pairs[name])
    for family in FAMILIES:
        assert scores[family].psnr == pytest.approx(golden["psnr"][family], abs=1e-3)
        assert scores[family].ssim == pytest.approx(golden["ssim"][family], abs=1e-4)


def test_golden_values_tell_the_families_apart():
    golden = VALUES["pairs"]["512x512"]["ssim"]
    assert abs(golden["uint8"] - golden["double"]) > 0.01


def test_luma_of_corners():
    colours = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    np.testing.assert_allclose(luma(colours), [16, 235, 81.481, 144.553, 40.966], atol=1e-12)


def test_psnr_by_hand():
    """Equal steps of grey: RGB error 10 everywhere; luma error 10 · 219/255."""
    clean = np.full((16, 20, 3), 100, np.uint8)
    rainy = clean + np.uint8(10)
    assert score(rainy, clean, "rgb").psnr == pytest.approx(20 * math.log10(255 / 10))
    assert score(rainy, clean, "double").psnr == pytest.approx(20 * math.log10(255 / (10 * 219 / 255)))
    rounded = round(16 + 110 * 219 / 255) - round(16 + 100 * 219 / 255)
    assert score(rainy, clean, "uint8").psnr == pytest.approx(20 * math.log10(255 / rounded))


def test_equal_pictures(pairs):
    picture = pairs["512x512"][1][:64, :64]
    for scores in score_all(picture, picture).values():
        assert scores.psnr == math.inf
        assert scores.ssim == pytest.approx(1)


@pytest.mark.parametrize(
    ("shape", "other", "message"),
    [
        ((16, 16, 3), (16, 17, 3), "16x16 pixels, its reference 17x16"),
        ((10, 16, 3), (10, 16, 3), "smaller than SSIM's window"),
        ((16, 16), (16, 16), r"uint8 \(height, width, 3\)"),
    ],
)
def test_bad_pairs(shape, other, message):
    with pytest.raises(MetricError, match=message):
        score(np.zeros(shape, np.uint8), np.zeros(other, np.uint8))


def test_floats_are_refused():
    with pytest.raises(MetricError, match="float32"):
        score(np.zeros((16, 16, 3), np.float32), np.zeros((16, 16, 3), np.uint8))
