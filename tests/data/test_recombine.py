"""The rain of one pair over the clean side of another."""

import numpy as np
import pytest

from multifocal_jax.cli.main import run
from multifocal_jax.data.errors import DataError
from multifocal_jax.data.images import read_image
from multifocal_jax.data.recombine import add_layer, rain_layer
from tests.data.helpers import save

WIDE, TALL = (6, 9), (9, 6)
SIZES = {"a": WIDE, "b": WIDE, "c": WIDE, "d": WIDE, "e": TALL, "f": TALL, "g": (12, 12)}


@pytest.fixture
def layers():
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, 200, size) * (rng.random(size) < 0.3) for name, size in SIZES.items()}


@pytest.fixture
def backgrounds():
    rng = np.random.default_rng(1)
    return {name: rng.integers(0, 256, (*size, 3)) for name, size in SIZES.items()}


@pytest.fixture
def pairs(tmp_path, layers, backgrounds):
    for name, clean in backgrounds.items():
        # A channel of 0 everywhere, so that the layer can be recovered although other channels are cut off.
        clean[..., 1] = 0
        rainy = np.minimum(clean + layers[name][..., None], 255)
        save(tmp_path / "set" / "rain" / f"{name}.png", rainy.astype(np.uint8))
        save(tmp_path / "set" / "norain" / f"{name}.png", clean.astype(np.uint8))
    return tmp_path / "set"


def parts(layer, size):
    """All cuts of a size from a layer and from its mirror image."""
    height, width = size
    cuts = [
        layer[top : top + height, left : left + width]
        for top in range(layer.shape[0] - height + 1)
        for left in range(layer.shape[1] - width + 1)
    ]
    return cuts + [cut[:, ::-1] for cut in cuts]


def test_pairs_are_clean_sides_plus_the_rain_of_others(tmp_path, pairs, layers, backgrounds, capsys):
    out = tmp_path / "out"
    assert run(["data", "recombine", str(pairs), str(out), "--copies", "3"]) == 0
    # 4 wide ones take 3 of 3 others or g; 2 tall ones the other and g; g, the largest, has none.
    assert capsys.readouterr().out == f"16 pairs written to {out}\n"
    files = sorted((out / "rain").iterdir())
    assert [file.name for file in files] == [file.name for file in sorted((out / "norain").iterdir())]
    for file in files:
        background, rain = file.stem.split("+")
        assert background != rain
        clean = backgrounds[background]
        np.testing.assert_array_equal(read_image(out / "norain" / file.name), clean)
        wanted = [np.minimum(clean + cut[..., None], 255) for cut in parts(layers[rain], SIZES[background])]
        assert any(np.array_equal(read_image(file), rainy) for rainy in wanted)
    assert {name for name in SIZES if any(file.stem.startswith(name) for file in files)} == set("abcdef")
    mirrored = [
        not np.array_equal(read_image(file), np.minimum(backgrounds[b] + layers[r][..., None], 255))
        for file in files
        for b, r in [file.stem.split("+")]
        if SIZES[b] == SIZES[r]
    ]
    assert any(mirrored)
    assert not all(mirrored)


def test_they_depend_on_the_seed_alone(tmp_path, pairs):
    for name, seed in (("one", "0"), ("two", "0"), ("other", "1")):
        run(["data", "recombine", str(pairs), str(tmp_path / name), "--copies", "2", "--seed", seed])
    first, second, other = (
        {file.name: file.read_bytes() for file in (tmp_path / name / "rain").iterdir()}
        for name in ("one", "two", "other")
    )
    assert first == second
    assert first != other


def test_held_out_pairs_give_neither_rain_nor_background(tmp_path, pairs):
    run(["data", "recombine", str(pairs), str(tmp_path / "out"), "--held-out", "3"])
    used = {name for file in (tmp_path / "out" / "rain").iterdir() for name in file.stem.split("+")}
    assert used == set("abcdefg") - {"a", "c", "e"}  # places 0, 7//3 and 14//3 of the sorted names


def test_the_layer_shows_in_the_channel_that_is_not_cut_off():
    clean = np.array([[[250, 100, 255], [10, 20, 30]]], np.uint8)
    rainy = np.array([[[255, 140, 255], [10, 20, 30]]], np.uint8)
    np.testing.assert_array_equal(rain_layer(rainy, clean), [[40, 0]])
    np.testing.assert_array_equal(add_layer(clean, np.array([[7, 250]], np.uint8)), [[[255, 107, 255], [255] * 3]])


def test_rain_that_was_not_added_is_refused(tmp_path, pairs):
    grey = np.full((6, 9, 3), 200, np.uint8)
    save(pairs / "rain" / "b.png", grey)
    save(pairs / "norain" / "b.png", grey // 2 + np.arange(3, dtype=np.uint8) * 20)
    with pytest.raises(DataError, match=r"^b: its rainy side is not the clean one plus a grey layer"):
        run(["data", "recombine", str(pairs), str(tmp_path / "out")])


def test_what_cannot_be_recombined(tmp_path, pairs):
    (tmp_path / "full" / "rain").mkdir(parents=True)
    with pytest.raises(DataError, match=r"full is not empty; choose another folder"):
        run(["data", "recombine", str(pairs), str(tmp_path / "full")])
    with pytest.raises(DataError, match=r"norain"):
        run(["data", "recombine", str(tmp_path / "full"), str(tmp_path / "out")])
    for side in ("rain", "norain"):
        for number in range(2):
            save(tmp_path / "few" / side / f"{number}.png", np.zeros((4 + number, 5 - number, 3), np.uint8))
    with pytest.raises(DataError, match=r"few: no pair is as large as another; nothing to recombine"):
        run(["data", "recombine", str(tmp_path / "few"), str(tmp_path / "out")])
