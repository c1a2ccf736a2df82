import json
import shutil

import numpy as np
import pytest
from PIL import Image, ImageFilter

from multifocal_jax.cli.main import run
from multifocal_jax.data.alignment import displacement, find_fault
from multifocal_jax.data.check import check
from multifocal_jax.data.demo import demo_photographs
from multifocal_jax.data.errors import DataError
from multifocal_jax.data.images import read_image
from multifocal_jax.data.sources import FrozenRain, PhotographFiles
from tests.data.helpers import save

SIZE = (96, 128)  # height and width


@pytest.fixture(scope="module")
def scenes():
    """Twelve different parts of photographs, uint8 (96, 128, 3)."""
    height, width = SIZE
    corners = [(40, 60), (180, 200), (290, 90)]
    files = [*demo_photographs("train")[:2], *demo_photographs("train")[3:], *demo_photographs("test")]
    images = [read_image(file) for file in files]
    cut = [image[top : top + height, left : left + width] for image in images for top, left in corners]
    return [image for image in cut if image.shape[:2] == SIZE][:12]


@pytest.fixture(scope="module")
def rainy(scenes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    files = [save(folder / f"{number:02}.png", scene) for number, scene in enumerate(scenes)]
    source = FrozenRain(PhotographFiles(files, folder), "light")
    return [source.load(index)[0] for index in range(len(scenes))]


@pytest.fixture
def pairs(tmp_path, scenes, rainy):
    for side, images in (("rain", rainy), ("norain", scenes)):
        for number, image in enumerate(images):
            save(tmp_path / "set" / side / f"{number}.png", image)
    return tmp_path / "set"


def kinds(report):
    return sorted((fault.kind, fault.name) for fault in report.faults)


def test_a_sound_set_has_no_faults(pairs, scenes):
    report = check(pairs)
    assert kinds(report) == []
    (checked,) = report.sets
    assert (checked.kind, checked.count) == ("pairs", len(scenes))
    assert checked.sizes == {"128x96": len(scenes)}


def test_planted_faults_are_found_each_by_its_kind(pairs, scenes, rainy):
    for number, image in {0: np.roll(rainy[0], (3, -5), (0, 1)), 1: scenes[1], 2: rainy[3], 4: rainy[4][:90]}.items():
        save(pairs / f"rain/{number}.png", image)
    save(pairs / "norain/1.png", rainy[1])
    path = pairs / "rain" / "5.png"
    path.write_bytes(path.read_bytes()[:2000])
    (pairs / "rain" / "6.png").unlink()
    save(pairs / "rain/20.png", rainy[7])
    save(pairs / "norain/20.png", scenes[7])
    report = check(pairs)
    planted = {"different": "2", "duplicate": "7", "misaligned": "0", "sizes": "4", "swapped": "1"}
    assert kinds(report) == sorted((planted | {"unpaired": "set", "unreadable": "5"}).items())
    details = {fault.kind: fault.detail for fault in report.faults}
    assert details["misaligned"] == "the rainy side is moved by 3 pixels down and -5 right"
    assert "rain/5.png" in details["unreadable"]
    assert "no rainy partner for 6.png" in details["unpaired"]
    assert details["duplicate"] == "the same scene as 20"  # "20" sorts before "7"
    text = report.text()
    assert "misaligned: 1" in text
    assert "128x96" in text


def test_overlap_is_found_through_scaling_compression_and_mirroring(pairs, scenes, tmp_path):
    other = tmp_path / "photographs"
    save(other / "mirrored.png", np.fliplr(scenes[8]))
    save(other / "new.png", read_image(demo_photographs("train")[1])[250:346, 300:428])
    picture = Image.fromarray(scenes[3])
    picture.resize((200, 150), Image.Resampling.BICUBIC).save(other / "large.jpg", quality=60)
    Image.fromarray(scenes[10]).filter(ImageFilter.GaussianBlur(1)).save(other / "soft.png")
    report = check(pairs, against=other)
    (comparison,) = report.comparisons
    assert comparison.title == "set with photographs"
    found = {(fault.name, fault.detail.rsplit(" ", 1)[1]) for fault in comparison.overlaps}
    assert found == {("3", "large"), ("8", "mirrored"), ("10", "soft")}


def test_splits_of_a_published_set_are_compared(tmp_path, scenes, rainy):
    for split, numbers in (("train", range(4)), ("test", range(3, 6))):
        for number in numbers:
            both = np.concatenate([scenes[number], rainy[number]], axis=1)
            save(tmp_path / "Rain800" / split / f"{split}{number}.png", both)
    report = check(tmp_path / "Rain800")
    found = [(item.title, item.count, item.published) for item in report.sets]
    assert found == [("rain800 train", 4, 700), ("rain800 test", 3, 100)]
    assert kinds(report) == [("overlap", "train3")]
    wrong_side = check(tmp_path / "Rain800", dataset="did")
    assert all(fault.kind in ("swapped", "overlap") for fault in wrong_side.faults)
    assert sum(fault.kind == "swapped" for fault in wrong_side.faults) == 7


def test_a_list_is_checked_as_it_is(tmp_path, scenes, rainy):
    for number, (clean, wet) in enumerate(zip(scenes[:2], rainy, strict=False)):
        save(tmp_path / f"spa/{number}gt.png", clean)
        save(tmp_path / f"spa/{number}.png", wet)
    file = tmp_path / "spa/real_test_1000.txt"
    file.write_text("/0.png /0gt.png\n/1.png /1gt.png\n")
    report = check(file)
    assert [(item.title, item.count, item.published) for item in report.sets] == [("real_test_1000.txt", 2, None)]
    assert kinds(report) == []


def test_several_rains_over_one_picture_are_no_duplicates(tmp_path, scenes, rainy):
    for number in range(2):
        save(tmp_path / "ground_truth" / f"{number}.png", scenes[number])
        for k in (1, 2):
            save(tmp_path / "rainy_image" / f"{number}_{k}.png", rainy[number])
    assert kinds(check(tmp_path)) == []


def test_displacement_is_exact(scenes):
    wet = scenes[0][..., 1].astype(float)
    down, right, peak = displacement(wet, wet)
    assert (down, right) == (0, 0)
    np.testing.assert_allclose(peak, 1, atol=1e-6)
    assert displacement(np.roll(wet, (-7, 4), (0, 1)), wet)[:2] == (-7, 4)


def test_a_uniform_picture_is_not_judged():
    grey = np.full((32, 32, 3), 90, np.uint8)
    assert find_fault(grey, grey) is None


def test_the_command_prints_and_exits_by_what_it_found(pairs, capsys):
    assert run(["data", "check", str(pairs)]) == 0
    assert "no faults" in capsys.readouterr().out
    (pairs / "rain" / "6.png").unlink()
    assert run(["data", "check", str(pairs), "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed["sets"][0]["faults"][0]["kind"] == "unpaired"
    with pytest.raises(DataError, match="nowhere does not exist"):
        run(["data", "check", str(pairs / "nowhere")])


def _unlike(folder):
    for path in (folder / "rain").iterdir():
        save(path, read_image(path)[:-1])


def _lonely(folder):
    for path in (folder / "rain").iterdir():
        path.rename(path.with_stem(f"other{path.stem}"))


def _pointers(folder):
    for path in folder.rglob("*.png"):
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")


@pytest.mark.parametrize(
    ("spoil", "kind", "count"), [(_unlike, "sizes", 12), (_lonely, "unpaired", 24), (_pointers, "unreadable", 12)]
)
def test_faults_are_listed_where_no_pair_can_be_used(pairs, tmp_path, capsys, spoil, kind, count):
    sound = tmp_path / "sound"
    shutil.copytree(pairs, sound)
    spoil(pairs)
    assert run(["data", "check", str(pairs), "--limit", "3"]) == 1
    printed = capsys.readouterr().out
    assert f"  {kind}: {count}\n" in printed
    assert "sizes: none, as nothing here can be used" in printed
    assert f"    and {count - 3} more" in printed
    report = check(sound, against=pairs)
    assert [fault.kind for fault in report.faults] == [kind] * count


def test_a_split_that_cannot_be_used_is_not_passed_over(pairs, tmp_path):
    root = tmp_path / "rain100l"
    for split in ("train", "test"):
        shutil.copytree(pairs, root / split)
    assert [part.title for part in check(root).sets] == ["rain100l train", "rain100l test"]
    shutil.copytree(pairs, root / "train_extra")
    with pytest.raises(DataError, match="several folders for train"):
        check(root)


def test_the_folder_that_one_is_in_is_recognised(pairs, tmp_path, monkeypatch):
    shutil.copytree(pairs, tmp_path / "rain100l" / "train")
    monkeypatch.chdir(tmp_path / "rain100l")
    assert [part.title for part in check(".").sets] == ["rain100l train"]
    monkeypatch.chdir(pairs)
    assert [part.title for part in check(".").sets] == ["set"]
