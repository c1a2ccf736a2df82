import itertools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from multifocal_jax.cli.main import run
from multifocal_jax.config import DataConfig, SourceConfig
from multifocal_jax.data import builders
from multifocal_jax.data.builders import BUILDERS, prepare
from multifocal_jax.data.errors import DataError, ImageError
from multifocal_jax.data.layouts import complete_pairs
from multifocal_jax.data.pipeline import TrainingData
from multifocal_jax.data.published import PUBLISHED
from multifocal_jax.data.sources import open_source
from tests.data.helpers import save

RNG = np.random.default_rng(0)


def files(dataset, split, n):
    """Names of the files of pair `n` in the unpacked archives, the rainy one first; one where both sides are in it."""
    background, rain = divmod(n - 1, 14)
    did = f"DID-MDN-training/Rain_{('Heavy', 'Light', 'Medium')[n % 3]}/train2018new/{(n - 1) // 3}.jpg"
    rain1400 = f"rainy_image_dataset/{split}ing"
    return {
        "rain200h": [f"rain_data_{split}_Heavy/{name}.png" for name in (f"rain/X2/norain-{n}x2", f"norain/norain-{n}")],
        "rain200l": [f"rain_data_{split}_Light/{name}.png" for name in (f"rain/X2/norain-{n}x2", f"norain/norain-{n}")],
        "rain100h": [f"{split}/rain/rain-{n:03}.png", f"{split}/norain/norain-{n:03}.png"],
        "rain100l": [f"{split}/rain/norain-{n}.png", f"{split}/norain/norain-{n}.png"],
        "rain800": [f"training/{n}.jpg" if split == "train" else f"test_syn/{n}.jpg"],
        "rain1400": [
            f"{rain1400}/rainy_image/{900 + background}_{rain + 1}.jpg",
            f"{rain1400}/ground_truth/{900 + background}.jpg",
        ],
        "did": [did if split == "train" else f"DID-MDN-test/{n}.jpg"],
        "spa": [f"{split}_rainy/{n}.png", f"{split}_gt/{n}.png"],
    }[dataset]


def archive(dataset, root, split, count):
    """A small set in the layout in which the archives of the real one unpack."""
    pairs = [files(dataset, split, n) for n in range(1, count + 1)]
    for names in pairs:
        for name in names:
            save(root / name, RNG.integers(0, 256, (36, 80 // len(names), 3), dtype=np.uint8))
    if dataset == "spa":
        lines = "".join(f"/{rainy} /{clean}\n" for rainy, clean in pairs)
        (root / ("real_world.txt" if split == "train" else "real_test_1000.txt")).write_text(lines)


@pytest.fixture
def sizes(monkeypatch):
    """Pretend that the published splits are small: 15 and 3 pairs."""
    for published in PUBLISHED.values():
        monkeypatch.setitem(published.sizes, "train", 15)
        monkeypatch.setitem(published.sizes, "test", 3)


@pytest.mark.parametrize("dataset", list(BUILDERS))
def test_a_prepared_set_equals_its_folder(dataset, tmp_path, sizes):
    raw, out = tmp_path / "raw", tmp_path / "prepared"
    for split, count in (("train", 15), ("test", 3)):
        archive(dataset, raw, split, count)
    assert prepare(dataset, raw, out) == {"train": 15, "test": 3}
    for split in ("train", "test"):
        folder = open_source(SourceConfig(dataset=dataset, root=str(raw), split=split))
        prepared = open_source(SourceConfig(dataset=dataset, root=str(out), split=split, reader="tfds"))
        names = [folder.name(index) for index in range(len(folder))]
        assert names == sorted(names)
        assert [prepared.name(index) for index in range(len(prepared))] == names
        for index in range(len(folder)):
            for here, there in zip(folder.load(index), prepared.load(index), strict=True):
                np.testing.assert_array_equal(here, there)
            size = folder.load(index)[1].shape[:2]
            assert {source.check(index, whole) for source in (folder, prepared) for whole in (False, True)} == {size}
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize(("mode", "workers"), [("memory", 0), ("stream", 0), ("stream", 2)])
def test_batches_are_those_of_the_folder(tmp_path, mode, workers):
    archive("rain1400", tmp_path / "raw", "train", 30)
    prepare("rain1400", tmp_path / "raw", tmp_path, any_size=True)

    def batches(reader, root, mode, workers=0):
        source = SourceConfig(dataset="rain1400", root=root, reader=reader)
        config = DataConfig(root=str(tmp_path), train=(source,), held_out=1, crop_size=32, mode=mode, workers=workers)
        data = TrainingData(config, batch_size=4, seed=3)
        assert data.pictures == 16  # the 14 rains over the background held out are set aside
        assert len(data.held_out.alike(0)) == (14 if reader == "tfds" else 1)  # records, and a path
        assert data.fingerprints == TrainingData(config, 1, seed=0).fingerprints
        (printed,) = data.fingerprints
        assert printed["pictures"] == 30
        iterator = data.batches(2)
        taken = list(itertools.islice(iterator, 4))
        iterator.close()
        return taken

    expected = batches("folder", "raw", "memory")
    for one, other in zip(expected, batches("tfds", "", mode, workers), strict=True):
        for side in ("rainy", "clean"):
            np.testing.assert_array_equal(one[side], other[side])


def test_rain_can_be_synthesised_over_a_prepared_set(tmp_path):
    archive("rain100l", tmp_path / "raw", "train", 2)
    prepare("rain100l", tmp_path / "raw", tmp_path, any_size=True)
    pairs = [
        open_source(SourceConfig(dataset="rain100l", root=str(root), reader=reader, rain="light")).load(1)
        for root, reader in ((tmp_path, "tfds"), (tmp_path / "raw", "folder"))
    ]
    for here, there in zip(*pairs, strict=True):
        np.testing.assert_array_equal(here, there)


def test_numbers_of_pairs_are_checked(tmp_path, sizes):
    archive("rain100l", tmp_path / "raw", "train", 14)
    archive("rain100l", tmp_path / "raw", "test", 3)
    with pytest.raises(DataError, match=r"has 14 train pairs, the published set has 15; .* any_size"):
        prepare("rain100l", tmp_path / "raw", tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.json"))
    assert prepare("rain100l", tmp_path / "raw", tmp_path / "out", any_size=True) == {"train": 14, "test": 3}
    with pytest.raises(DataError, match="prepared already"):
        prepare("rain100l", tmp_path / "raw", tmp_path / "out")


def test_a_split_that_is_missing(tmp_path):
    archive("rain100l", tmp_path / "raw", "train", 2)
    assert prepare("rain100l", tmp_path / "raw", tmp_path / "out", any_size=True) == {"train": 2}
    with pytest.raises(DataError, match="has no test split, only train"):
        open_source(SourceConfig(dataset="rain100l", root=str(tmp_path / "out"), reader="tfds", split="test"))


def test_what_is_not_prepared_says_how_to(tmp_path):
    with pytest.raises(DataError) as caught:
        open_source(SourceConfig(dataset="did", root=str(tmp_path), reader="tfds"))
    assert f"did is not prepared in {tmp_path}; run: multifocal data prepare did" in str(caught.value)
    with pytest.raises(DataError, match="no data set 'rain9'; known: rain200h"):
        prepare("rain9", tmp_path, tmp_path)
    with pytest.raises(DataError, match=r"does not exist. Get the archives DID-MDN-training"):
        prepare("did", tmp_path / "nowhere", tmp_path)


def test_a_broken_picture_leaves_nothing_behind(tmp_path):
    archive("rain100l", tmp_path / "raw", "train", 5)
    path = tmp_path / "raw/train/rain/norain-4.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ImageError, match=r"norain-4\.png"):
        prepare("rain100l", tmp_path / "raw", tmp_path / "out", any_size=True)
    with pytest.raises(DataError, match="is not prepared"):
        open_source(SourceConfig(dataset="rain100l", root=str(tmp_path / "out"), reader="tfds"))


def test_a_killed_build_is_never_taken_for_a_whole_one(tmp_path):
    archive("rain100l", tmp_path / "raw", "train", 4)
    out = tmp_path / "out"
    script = f"""
import time
from multifocal_jax.data import builders
load = builders.Pair.load
builders.Pair.load = lambda pair: (time.sleep(60) if pair.name.endswith("3") else None) or load(pair)
builders.prepare("rain100l", {str(tmp_path / "raw")!r}, {str(out)!r}, any_size=True)
"""
    build = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            if out.is_dir() and any((out / "rain100l").glob("*incomplete*")):
                break
            time.sleep(0.1)
        time.sleep(0.3)
    finally:
        os.kill(build.pid, signal.SIGKILL)
        build.wait()
    assert any((out / "rain100l").glob("*incomplete*"))
    with pytest.raises(DataError, match="is not prepared"):
        open_source(SourceConfig(dataset="rain100l", root=str(out), reader="tfds"))
    assert prepare("rain100l", tmp_path / "raw", out, any_size=True) == {"train": 4}


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    archive("rain100l", tmp_path / "raw", "train", 1)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot be written to .*file: .*choose another data_dir"):
        prepare("rain100l", tmp_path / "raw", tmp_path / "file", any_size=True)


def test_every_published_set_has_a_builder_with_instructions():
    assert set(BUILDERS) == set(PUBLISHED)
    for name, builder in BUILDERS.items():
        published = PUBLISHED[name]
        for told in (published.archive, published.layout, f"{published.sizes['train']:,} train"):
            assert told in builder.MANUAL_DOWNLOAD_INSTRUCTIONS


def test_sizes_are_the_published_ones():
    # The papers' own figures, as the data notes of the de-raining literature give them.
    sizes = {"rain200h": (1800, 200), "rain200l": (1800, 200), "rain100h": (1800, 100), "rain100l": (200, 100)}
    sizes |= {"rain800": (700, 100), "rain1400": (12600, 1400), "did": (12000, 1200), "spa": (638492, 1000)}
    assert {name: tuple(item.sizes.values()) for name, item in PUBLISHED.items()} == sizes


def test_order_survives_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr(builders, "_SHARD", 5)
    archive("rain100l", tmp_path / "raw", "train", 23)
    assert prepare("rain100l", tmp_path / "raw", tmp_path, any_size=True) == {"train": 23}
    assert len(list((tmp_path / "rain100l").rglob("*.array_record-*"))) == 5
    source = open_source(SourceConfig(dataset="rain100l", root=str(tmp_path), reader="tfds"))
    names = [pair.name for pair in complete_pairs("rain100l", tmp_path / "raw")]
    assert [source.name(index) for index in range(len(source))] == names


def test_sets_beyond_a_gigabyte_need_no_tensorflow(tmp_path, monkeypatch):
    # From a limit on, TFDS's own writer opens temporary files with TensorFlow; no bytes at all stand for it here.
    from tensorflow_datasets.core import shuffle

    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 0)
    archive("rain100l", tmp_path / "raw", "train", 3)
    assert prepare("rain100l", tmp_path / "raw", tmp_path, any_size=True) == {"train": 3}


def test_the_command(tmp_path, capsys):
    archive("rain800", tmp_path / "raw", "train", 2)
    arguments = ["data", "prepare", "rain800", "--root", str(tmp_path / "raw"), "--data-dir", str(tmp_path / "out")]
    with pytest.raises(DataError, match="has 2 train pairs, the published set has 700"):
        run(arguments)
    assert run([*arguments, "--any-size"]) == 0
    assert "rain800: 2 train pairs prepared" in capsys.readouterr().out


def test_one_folder_is_not_built_as_two_splits(tmp_path):
    archive("rain100l", tmp_path / "raw", "train", 2)
    with pytest.raises(DataError, match=r"rain100l: .* has one folder of pairs for train and test; name it after"):
        prepare("rain100l", (tmp_path / "raw" / "train").rename(tmp_path / "mine"), tmp_path / "out", any_size=True)
    assert not list((tmp_path / "out").rglob("dataset_info.json"))


def read_all(root):
    source = open_source(SourceConfig(dataset="rain100l", root=str(root), reader="tfds"))
    return [source.load(index) for index in range(len(source))]


@pytest.mark.parametrize("damaged", ["*.array_record-*", "dataset_info.json", "features.json"])
def test_damaged_prepared_sets_are_said_to_be(tmp_path, damaged):
    archive("rain100l", tmp_path / "raw", "train", 3)
    prepare("rain100l", tmp_path / "raw", tmp_path, any_size=True)
    (file,) = (tmp_path / "rain100l").rglob(damaged)
    content = file.read_bytes()
    wrong = [b"", content[: len(content) // 2]]
    if damaged.startswith("*"):
        wrong.append(content[:3000] + bytes(3000) + content[6000:])
    for data in wrong:
        file.write_bytes(data)
        with pytest.raises(DataError, match=r"rain100l.*(prepare (it|the set) again|record \d cannot be read)"):
            read_all(tmp_path)
