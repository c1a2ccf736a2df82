"""Drawings of what looks like rain but is not."""

import numpy as np
import pytest
from PIL import Image

from multifocal_jax.cli.main import run
from multifocal_jax.errors import UserError
from multifocal_jax.release.lookalikes import draw_lines, draw_lookalike


def test_lines_cover_the_pixels_that_they_cross():
    ground = np.zeros((4, 8, 3), np.uint8)
    drawn = draw_lines(ground, [([(0, 2), (8, 2)], 2)], (200, 100, 50))
    inner = drawn[:, 1:-1].astype(int)
    assert (inner[2] == (200, 100, 50)).all() or (inner[1] == (200, 100, 50)).all()
    assert inner.sum() == pytest.approx(2 * 6 * 350, rel=0.15)


def test_pictures_are_a_function_of_seed_and_number(tmp_path):
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for number in range(2):
        Image.new("RGB", (40, 30), (90 * number + 40,) * 3).save(photographs / f"{number}.png")
    for name, count in (("one", "6"), ("more", "8")):
        assert run(["release", "lookalikes", str(photographs), str(tmp_path / name), "--count", count]) == 0
    files = sorted((tmp_path / "more").iterdir())
    assert [file.name for file in files] == [f"{number:04d}.png" for number in range(8)]
    first = [np.asarray(Image.open(tmp_path / "one" / file.name)) for file in files[:6]]
    assert all(np.array_equal(picture, np.asarray(Image.open(f))) for picture, f in zip(first, files, strict=False))
    assert len({picture.tobytes() for picture in first}) == 6
    with pytest.raises(UserError, match=r"0000\.png exists; choose another folder"):
        run(["release", "lookalikes", str(photographs), str(tmp_path / "one")])
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match=r"no pictures in .*none"):
        run(["release", "lookalikes", str(tmp_path / "none"), str(tmp_path / "out")])


def test_lines_stand_out():
    for seed in range(8):
        for grey in (30, 220):
            drawn = draw_lookalike(np.full((64, 64, 3), grey, np.uint8), np.random.default_rng(seed))
            assert np.ptp(drawn.mean(-1)) > 40
