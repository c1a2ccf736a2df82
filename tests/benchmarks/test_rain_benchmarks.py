"""Figures of synthetic rain, and the pictures that only look like rain."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.lookalikes import lookalikes, table
from benchmarks.rain import main, measure


def test_figures_of_streaks_that_are_known():
    # Gaussian streaks, 2.4 (across) and 24 pixels (along) wide at half their height, 20 degrees from the vertical.
    rows, columns = np.mgrid[:240, :240]
    change = np.zeros((240, 240))
    turn = np.radians(20)
    for row, column in np.random.default_rng(0).integers(20, 220, (25, 2)):
        along = (columns - column) * np.sin(turn) + (rows - row) * np.cos(turn)
        across = (columns - column) * np.cos(turn) - (rows - row) * np.sin(turn)
        change += 0.5 * np.exp(-4 * np.log(2) * ((along / 24) ** 2 + (across / 2.4) ** 2))
    clean = np.full((240, 240, 3), 60, np.uint8)
    rainy = np.round(60 + 255 * np.minimum(change, 0.7)[..., None]).astype(np.uint8).repeat(3, 2)
    rain = measure(rainy, clean)
    assert rain.angle == pytest.approx(20, abs=0.5)
    assert rain.coherence > 0.95
    assert rain.width == pytest.approx(2.4, rel=0.15)
    assert rain.length == pytest.approx(24, rel=0.15)
    assert rain.covered == pytest.approx((change > 0.03).mean(), abs=0.005)
    assert rain.brightness == pytest.approx(np.minimum(change, 0.7)[change > 0.03].mean(), rel=0.02)
    assert rain.darker == 0
    assert rain.psnr == pytest.approx(10 * np.log10(255**2 / np.mean((219 * np.minimum(change, 0.7)) ** 2)), abs=0.1)
    assert measure(clean, rainy).darker == 1
    assert measure(clean, clean).covered == 0


def test_the_table_of_styles(tmp_path, capsys, rng):
    for folder in ("photos", "pairs/rain", "pairs/norain"):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(rng.integers(40, 60, (48, 64, 3), np.uint8)).save(tmp_path / folder / "1.png")
    assert main([str(tmp_path / "photos"), "--pairs", str(tmp_path / "pairs")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["`light`", "`heavy`", "`varied`", "`real`", "pairs"]
    assert all(line.count("|") == 10 for line in lines)


def test_what_a_network_does_to_lookalikes(tmp_path: Path):
    pictures = lookalikes()
    assert {"text", "grass", "fur", "railings", "strings"} <= set(pictures)
    assert all(picture.dtype == np.uint8 and picture.shape[2] == 3 for picture in pictures.values())
    kept = table(lambda picture: picture, tmp_path).splitlines()
    assert kept[2] == "| text | 100.00 | 1.0000 | 0 |"
    assert len(kept) == 2 + len(pictures)
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(pictures)
    # Values that change by 3 of 255 change the rounded luma by 3 · 219 / 255, rounded up or down.
    changed = table(lambda picture: np.where(picture > 127, picture - 3, picture + 3).astype(np.uint8)).splitlines()
    assert 20 * np.log10(255 / 3) <= float(changed[-1].split("|")[2]) <= 20 * np.log10(255 / 2)
    assert changed[-1].split("|")[4].strip() == "3"
