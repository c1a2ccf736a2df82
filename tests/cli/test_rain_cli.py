"""`multifocal rain` from a folder of photographs to a folder of pairs."""

import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from multifocal_jax.cli.main import run
from multifocal_jax.data.errors import DataError
from multifocal_jax.data.rain import add_rain, rain_key, rain_over
from multifocal_jax.errors import UserError

SIZES = {"bridge.png": (40, 56), "alley.png": (56, 41), "yard.jpg": (64, 64)}


@pytest.fixture
def photos(tmp_path, rng) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, (height, width) in SIZES.items():
        Image.fromarray(rng.integers(0, 160, (height, width, 3), np.uint8)).save(folder / name)
    return folder


def _run(*arguments: object) -> int:
    return run(["rain", *(str(argument) for argument in arguments)])


def _read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_pairs_from_photographs(photos, tmp_path, capsys):
    out = tmp_path / "deep" / "pairs"
    assert _run(photos, out, "--style", "light", "--seed", 4) == 0
    assert "3 pairs with light rain" in capsys.readouterr().out
    for index, name in enumerate(sorted(SIZES)):
        stem = Path(name).stem
        rainy, clean = _read(out / "rain" / f"{stem}.png"), _read(out / "norain" / f"{stem}.png")
        np.testing.assert_array_equal(clean, _read(photos / name))
        expected, _ = add_rain(rain_key(4, index), jnp.asarray(clean, jnp.float32) / 255, "light")
        np.testing.assert_allclose(rainy / 255, expected, atol=1 / 255)
        assert (rainy >= clean).all()
        assert (rainy > clean).any()
    assert sorted(path.name for path in out.rglob("*.*")) == sorted(2 * [f"{Path(name).stem}.png" for name in SIZES])


def test_under_real_rain_the_clean_side_went_through_the_camera(photos, tmp_path):
    for name in ("bridge.png", "alley.png"):
        (photos / name).unlink()
    assert _run(photos, tmp_path / "out", "--style", "real", "--seed", 3) == 0
    photograph = _read(photos / "yard.jpg")
    rainy, clean = rain_over(rain_key(3, 0), photograph, "real", 128)
    np.testing.assert_array_equal(_read(tmp_path / "out" / "rain" / "yard.png"), rainy)
    np.testing.assert_array_equal(_read(tmp_path / "out" / "norain" / "yard.png"), clean)
    assert (clean != photograph).any()


def test_a_broken_photograph_is_reported_and_skipped(photos, tmp_path, capsys):
    assert _run(photos, tmp_path / "whole") == 0
    (photos / "bridge.png").write_bytes((photos / "bridge.png").read_bytes()[:900])
    capsys.readouterr()
    assert _run(photos, tmp_path / "out") == 1
    errors = capsys.readouterr().err
    assert f"error: picture {photos / 'bridge.png'} cannot be read" in errors
    assert "1 of 3 photographs skipped" in errors
    assert not (tmp_path / "out" / "rain" / "bridge.png").exists()
    # The others' rain is as it was, though one before them is gone.
    for stem in ("alley", "yard"):
        rainy = tmp_path / "out" / "rain" / f"{stem}.png"
        np.testing.assert_array_equal(_read(rainy), _read(tmp_path / "whole" / "rain" / f"{stem}.png"))


def test_nothing_is_overwritten_unless_asked(photos, tmp_path):
    out = tmp_path / "out"
    (out / "norain").mkdir(parents=True)
    mine = out / "norain" / "yard.png"
    mine.write_bytes(b"mine")
    with pytest.raises(DataError, match=r"yard\.png exists; name another OUT, or pass --overwrite"):
        _run(photos, out)
    assert mine.read_bytes() == b"mine"
    assert not (out / "rain").exists()
    assert _run(photos, out, "--overwrite") == 0
    np.testing.assert_array_equal(_read(mine), _read(photos / "yard.jpg"))
    with pytest.raises(DataError, match="and 5 more exist"):
        _run(photos, out)


@pytest.mark.parametrize("side", ["rain", "norain"])
def test_photographs_are_never_their_own_target(photos, tmp_path, side):
    inside = tmp_path / side
    photos.rename(inside)
    with pytest.raises(DataError, match="one of the folders to write"):
        _run(inside, tmp_path, "--overwrite")
    assert sorted(path.name for path in inside.iterdir()) == sorted(SIZES)


def test_photographs_of_one_name(photos, tmp_path):
    Image.new("RGB", (16, 16)).save(photos / "yard.png")
    with pytest.raises(DataError, match=r"would both be written as yard\.png; rename one"):
        _run(photos, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folder_without_pictures(tmp_path):
    with pytest.raises(DataError, match="holds no pictures"):
        _run(tmp_path, tmp_path / "out")


def test_out_that_cannot_be_a_folder(photos, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write into"):
        _run(photos, tmp_path / "file")


@pytest.mark.parametrize("seed", ["-1", "4294967296"])
def test_seeds_that_there_are_not(photos, tmp_path, capsys, seed):
    with pytest.raises(SystemExit):
        _run(photos, tmp_path / "out", "--seed", seed)
    assert f"argument --seed: '{seed}' is not" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_unknown_style(photos, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_info:
        _run(photos, tmp_path / "out", "--style", "fog")
    assert exit_info.value.code == 2
    assert "'light', 'heavy', 'varied', 'real'" in capsys.readouterr().err


def test_as_a_command_a_users_error_is_one_line(tmp_path):
    command = [sys.executable, "-m", "multifocal_jax.cli.main", "rain", tmp_path / "nowhere", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"error: folder {tmp_path / 'nowhere'} does not exist\n"
