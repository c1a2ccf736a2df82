import re

import numpy as np
import pytest
from PIL import Image

from multifocal_jax.data.errors import DataError, ImageError
from multifocal_jax.data.layouts import clean_stems, complete_pairs, find_pairs
from multifocal_jax.data.published import PUBLISHED


def write(folder, names, size=(4, 6), value=None):
    """Pictures of one colour each, so that a test can tell which one was read."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (value if value is not None else number, 0, 0)).save(path)


def partners(layout):
    return {pair.name: pair.clean.path.stem for pair in layout.pairs}


NUMBERS = range(1, 13)


@pytest.mark.parametrize(
    ("rainy", "clean"),
    [
        ("{split}/rain/norain-{n}.png", "{split}/norain/norain-{n}.png"),
        ("{split}/input/{n}.png", "{split}/target/{n}.png"),
        ("{split}/rain/X2/norain-{n}x2.png", "{split}/norain/norain-{n}.png"),
        ("{split}/rain/X2/norain-{n}x2.png", "{split}/norain-{n}.png"),
        ("{split}/rain/norain-{n}x2.png", "{split}/norain-{n}.png"),
        ("rain_data_{split}_Heavy/rain/X2/norain-{n}x2.png", "rain_data_{split}_Heavy/norain/norain-{n}.png"),
        ("Rain{Split}H/rain-{n}.png", "Rain{Split}H/norain-{n}.png"),
        ("{split}/rainy/rain-{n}.png", "{split}/norain-{n}.png"),
        ("archive/{split}ing/rainy_image/{n}.jpg", "archive/{split}ing/ground_truth/{n}.jpg"),
    ],
)
def test_layouts_of_two_sides_are_paired_by_name(tmp_path, rainy, clean):
    for split in ("train", "test"):
        fill = {"split": split, "Split": split.title()}
        write(tmp_path, [rainy.format(n=n, **fill) for n in NUMBERS])
        write(tmp_path, [clean.format(n=n, **fill) for n in NUMBERS])
    for split in ("train", "test"):
        layout = find_pairs("rain200h", tmp_path, split)
        assert layout.unpaired == []
        assert len(layout.pairs) == len(NUMBERS)
        assert [pair.name for pair in layout.pairs] == sorted(pair.name for pair in layout.pairs)
        for pair in layout.pairs:
            assert split in str(pair.rainy.path).lower()
            digits = "".join(filter(str.isdigit, pair.clean.path.stem))
            assert pair.rainy.path.stem in (digits, f"rain-{digits}", f"norain-{digits}", f"norain-{digits}x2")


def test_several_rains_over_one_clean_picture(tmp_path):
    write(tmp_path, [f"training/rainy_image/{n}_{k}.jpg" for n in (1, 10, 100) for k in range(1, 15)])
    write(tmp_path, [f"training/ground_truth/{n}.jpg" for n in (1, 10, 100)])
    layout = find_pairs("rain1400", tmp_path, "train")
    assert layout.unpaired == []
    assert len(layout.pairs) == 42
    assert partners(layout)["10_14"] == "10"
    assert partners(layout)["1_1"] == "1"


@pytest.mark.parametrize(
    ("dataset", "folders", "rainy_is_left"),
    [
        ("did", [f"DID-MDN-training/Rain_{kind}/train2018new" for kind in ("Heavy", "Light", "Medium")], True),
        ("did", ["DID-MDN-test"], True),
        ("rain800", ["training"], False),
        ("rain800", ["test_syn"], False),
        ("folder", ["rainy_clean"], True),
        ("folder", ["clean_rainy"], False),
    ],
)
def test_two_sided_pictures_are_split_on_the_right_side(tmp_path, dataset, folders, rainy_is_left):
    pixels = np.zeros((4, 12, 3), np.uint8)
    pixels[:, 6:] = 200
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
        for number in (1, 2):
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    if dataset == "rain800":
        (tmp_path / "test_nature").mkdir()  # part of the archive; real rain without clean pictures
    split = "test" if "test" in folders[0] else "train"
    pairs = complete_pairs(dataset, tmp_path, split)
    assert len(pairs) == len({pair.name for pair in pairs}) == 2 * len(folders)
    rainy, clean = pairs[0].load()
    assert rainy.shape == clean.shape == (4, 6, 3)
    assert (rainy.max(), clean.max()) == ((0, 200) if rainy_is_left else (200, 0))
    assert pairs[0].clean.size() == (4, 6)


def test_a_two_sided_picture_of_odd_width_is_refused(tmp_path):
    write(tmp_path, ["rainy_clean/1.png"], size=(7, 4))
    with pytest.raises(ImageError, match=r"1\.png is 7 pixels wide"):
        complete_pairs("folder", tmp_path)[0].load()


def test_lists(tmp_path):
    write(tmp_path, [f"real_world/{n}/{n}-1_0{k}.png" for n in ("001", "002") for k in (0, 1)])
    write(tmp_path, ["real_world_gt/001.png", "real_world_gt/002.png"])
    lines = [f"/real_world/{n}/{n}-1_0{k}.png /real_world_gt/{n}.png" for n in ("001", "002") for k in (0, 1)]
    (tmp_path / "real_world.txt").write_text("\n".join(lines) + "\n\n")
    (tmp_path / "real_test_1000.txt").write_text(lines[3].replace(" ", "\t"))
    (tmp_path / "readme.txt").write_text("not a list")
    expected = {"001-1_00": "001", "001-1_01": "001", "002-1_00": "002", "002-1_01": "002"}
    assert partners(find_pairs("spa", tmp_path, "train")) == expected
    assert partners(find_pairs("spa", tmp_path, "test")) == {"002-1_01": "002"}
    assert len(find_pairs("folder", tmp_path / "real_world.txt").pairs) == 4
    (tmp_path / "absolute.txt").write_text(f"{tmp_path}/real_world/001/001-1_00.png {tmp_path}/real_world_gt/001.png")
    assert len(find_pairs("folder", tmp_path / "absolute.txt").pairs) == 1


def test_lists_with_faults_name_the_line(tmp_path):
    write(tmp_path, ["a.png", "b.png"])
    (tmp_path / "list.txt").write_text("# rainy clean\na.png b.png\na.png b.png 3\n")
    with pytest.raises(DataError, match=r"list\.txt line 3 has 3 columns; expected two"):
        find_pairs("folder", tmp_path / "list.txt")
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa.png b.png\n")  # as Windows' editors begin a file
    assert len(complete_pairs("folder", tmp_path / "list.txt")) == 1
    (tmp_path / "list.txt").write_text("a.png b.png\na.png gone.png\n")
    with pytest.raises(DataError, match=r"1 pictures .* no partner: line 2: .*gone\.png does not exist"):
        complete_pairs("folder", tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text("a.png b.png\na.png b.png\n")
    with pytest.raises(DataError, match=r"several pairs are named a\.png"):
        complete_pairs("folder", tmp_path / "list.txt")
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as text"):
        find_pairs("folder", tmp_path / "list.txt")


def test_equal_names_in_several_subfolders_stay_apart(tmp_path):
    write(tmp_path, ["rain/a/1.png", "rain/b/1.png", "norain/a/1.png", "norain/b/1.png"])
    layout = find_pairs("folder", tmp_path)
    assert [(pair.name, pair.clean.path.parent.name) for pair in layout.pairs] == [("a-1", "a"), ("b-1", "b")]


def test_what_has_no_partner_is_named_and_shifts_nothing(tmp_path):
    write(tmp_path, [f"train/rain/X2/norain-{n}x2.png" for n in (1, 2, 4, 5)])
    write(tmp_path, [f"train/norain/norain-{n}.png" for n in (1, 3, 4, 5, 17)])
    layout = find_pairs("rain200h", tmp_path)
    assert partners(layout) == {"norain-1x2": "norain-1", "norain-4x2": "norain-4", "norain-5x2": "norain-5"}
    assert len(layout.unpaired) == 3
    with pytest.raises(DataError, match=r"no clean partner for X2/norain-2x2\.png") as caught:
        complete_pairs("rain200h", tmp_path)
    assert re.search(r"no rainy partner for norain-17\.png .*; expected norain-17x2\.png", str(caught.value))


def test_a_prefix_is_no_partner():
    assert "norain-1" not in clean_stems("norain-12")
    assert next(iter(clean_stems("norain-5x2"))) == "norain-5x2"
    assert set(clean_stems("im_0001_rain")) >= {"im_0001_norain", "im_0001_clean"}


@pytest.mark.parametrize("dataset", [*PUBLISHED, "folder"])
def test_an_empty_folder_says_what_is_expected_and_what_to_do(tmp_path, dataset):
    for root in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DataError) as caught:
            find_pairs(dataset, root)
        message = str(caught.value)
        assert str(root) in message
        assert "expected" in message
        if dataset in PUBLISHED:
            assert PUBLISHED[dataset].layout in message
            assert f"multifocal data check {root} --dataset {dataset}" in message


def test_the_other_split_is_never_taken(tmp_path):
    write(tmp_path, ["train/rain/1.png", "train/norain/1.png"])
    assert len(find_pairs("rain100l", tmp_path / "train", "train").pairs) == 1
    for root in (tmp_path, tmp_path / "train"):
        with pytest.raises(DataError, match="no test split"):
            find_pairs("rain100l", root, "test")


def test_more_than_one_reading_is_refused(tmp_path):
    write(tmp_path, ["one/rain/1.png", "one/input/1.png", "one/norain/1.png"])
    with pytest.raises(DataError, match="several ways: input, rain, norain"):
        find_pairs("folder", tmp_path / "one")
    write(tmp_path, ["two/train_heavy/rain/1.png", "two/train_light/rain/1.png"])
    with pytest.raises(DataError, match="several folders for train: train_heavy, train_light"):
        find_pairs("rain200h", tmp_path / "two")
    write(tmp_path, ["three/rain/1.png", "three/norain/1.png", "three/norain/1.jpg"])
    with pytest.raises(DataError, match="differ in their suffix alone"):
        find_pairs("folder", tmp_path / "three")


def test_sides_of_different_sizes_are_refused_with_both_names(tmp_path):
    write(tmp_path, ["rain/1.png"], size=(8, 8))
    write(tmp_path, ["norain/1.png"], size=(8, 9))
    with pytest.raises(ImageError, match=r"rain/1\.png is 8x8 but .*norain/1\.png is 8x9"):
        complete_pairs("folder", tmp_path)[0].load()
