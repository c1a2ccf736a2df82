import itertools
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from multifocal_jax.config import DataConfig, SourceConfig
from multifocal_jax.data import crops, pipeline
from multifocal_jax.data.errors import DataError, ImageError
from multifocal_jax.data.pipeline import TrainingData
from multifocal_jax.data.prepared import PreparedPairs
from multifocal_jax.data.rain import add_rain, rain_key
from multifocal_jax.data.sources import open_source

SIZES = [(40, 56), (56, 40), (33, 47), (48, 48), (64, 32), (32, 32), (50, 41)]  # height and width


def scene(number, height, width):
    """A picture whose pixels say where they come from: its number, row and column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([np.full((height, width), number), rows, columns], -1).astype(np.uint8)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs")
    for side, offset in (("rain", 100), ("norain", 0)):
        (root / side).mkdir()
        for number, size in enumerate(SIZES):
            Image.fromarray(scene(number + offset, *size)).save(root / side / f"{number}.png")
    return root


def config(folder, **fields):
    fields = {"crop_size": 32, "mode": "memory"} | fields
    sources = fields.pop("train", (SourceConfig(dataset="folder", root=str(folder)),))
    return DataConfig(train=sources, **fields)


def take(data, count, start=0):
    iterator = data.batches(start)
    batches = list(itertools.islice(iterator, count))
    close = getattr(iterator, "close", None)
    if close:
        close()
    return batches


def made(data, count, start=0):
    """Pairs as the step sees them."""
    resident = jax.device_put(data.resident)
    prepare = jax.jit(data.prepare)
    return [tuple(map(np.asarray, prepare(resident, batch))) for batch in take(data, count, start)]


def assert_same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_crops_are_aligned_and_cover_the_epoch(pairs):
    data = TrainingData(config(pairs), batch_size=7, seed=1)
    assert data.pictures == 7
    ((rainy, clean),) = made(data, 1)
    assert rainy.shape == clean.shape == (7, 32, 32, 3)
    assert rainy.dtype == clean.dtype == np.float32
    rainy, clean = np.round(rainy * 255).astype(int), np.round(clean * 255).astype(int)
    assert sorted(clean[:, 0, 0, 0]) == list(range(7))
    np.testing.assert_array_equal(rainy[..., 0], clean[..., 0] + 100)
    np.testing.assert_array_equal(rainy[..., 1:], clean[..., 1:])
    for crop in clean:
        number, top, left = crop[0, 0]
        height, width = SIZES[number]
        assert top <= height - 32
        assert left <= width - 32
        np.testing.assert_array_equal(crop, scene(number, height, width)[top : top + 32, left : left + 32])


@pytest.mark.parametrize("extra", [{}, {"flips": True, "rotations": True}])
def test_every_mode_and_resuming_give_the_same_batches(pairs, extra):
    reference = made(TrainingData(config(pairs, **extra), 4, seed=5), 6)
    for mode in ("device", "stream"):
        assert_same(made(TrainingData(config(pairs, mode=mode, **extra), 4, seed=5), 6), reference)
    assert_same(made(TrainingData(config(pairs, **extra), 4, seed=5), 2, start=4), reference[4:])
    assert_same(made(TrainingData(config(pairs, mode="stream", **extra), 4, seed=5), 2, start=4), reference[4:])
    other = made(TrainingData(config(pairs, **extra), 4, seed=6), 1)
    assert not np.array_equal(other[0][1], reference[0][1])


def test_worker_processes_give_the_same_batches(pairs):
    reference = take(TrainingData(config(pairs), 4, seed=5), 5)
    streamed = take(TrainingData(config(pairs, mode="stream", workers=2), 4, seed=5), 5)
    assert_same([batch.values() for batch in streamed], [batch.values() for batch in reference])


@pytest.mark.parametrize("mode", ["device", "memory", "stream"])
@pytest.mark.parametrize("processes", [2, 4])
def test_any_number_of_processes_gives_the_same_batches(pairs, mode, processes):
    reference = made(TrainingData(config(pairs), 4, seed=2), 3)
    parts = [made(TrainingData(config(pairs, mode=mode), 4, 2, p, processes), 3) for p in range(processes)]
    joined = [
        tuple(np.concatenate([part[t][side] for part in parts]) for side in range(2)) for t in range(len(reference))
    ]
    assert_same(joined, reference)


def test_device_mode_agrees_beyond_its_blocks_of_positions(pairs):
    far = crops._BLOCK - 1
    reference = made(TrainingData(config(pairs), 4, seed=5), 3, start=far)
    assert_same(made(TrainingData(config(pairs, mode="device"), 4, seed=5), far + 3)[far:], reference)


def test_turns_are_those_of_numpy(pairs):
    plain = made(TrainingData(config(pairs), 8, seed=0), 3)
    turned = TrainingData(config(pairs, flips=True, rotations=True), 8, seed=0)
    choices = take(turned, 3)
    for (rainy, clean), (rainy_turned, clean_turned), batch in zip(plain, made(turned, 3), choices, strict=True):
        for row, (flip, turns) in enumerate(zip(batch["flip"], batch["turns"], strict=True)):
            for before, after in ((rainy, rainy_turned), (clean, clean_turned)):
                expected = np.fliplr(before[row]) if flip else before[row]
                np.testing.assert_array_equal(after[row], np.rot90(expected, turns))


def test_rain_is_fresh_for_every_crop_and_a_function_of_seed_and_index(pairs):
    sources = (SourceConfig(dataset="folder", root=str(pairs), rain="light"),)
    reference = made(TrainingData(config(pairs, train=sources), 4, seed=9), 3)
    assert_same(made(TrainingData(config(pairs, train=sources, mode="device"), 4, seed=9), 3), reference)
    assert "rainy" not in take(TrainingData(config(pairs, train=sources), 4, seed=9), 1)[0]
    rainy, clean = reference[2]
    for row in range(4):
        expected, _ = jax.jit(add_rain, static_argnums=2)(rain_key(9, 8 + row), clean[row], "light")
        np.testing.assert_allclose(rainy[row], expected, atol=0.5 / 255 + 1e-5)
    np.testing.assert_allclose(rainy * 255, np.round(rainy * 255), atol=1e-4)


def test_sources_are_mixed_by_their_repeats(pairs):
    sources = (
        SourceConfig(dataset="folder", root="rain/..", repeat=2),
        SourceConfig(dataset="clean", root="norain", rain="heavy"),
        SourceConfig(dataset="clean", root="norain", rain="light"),
    )
    data = TrainingData(config(pairs, root=str(pairs), train=sources), batch_size=28, seed=0)
    assert data.pictures == 28
    (batch,) = take(data, 1)
    assert np.bincount(batch["source"]).tolist() == [14, 7, 7]
    for row, source in enumerate(batch["source"]):
        assert (batch["rainy"][row] == batch["clean"][row]).all() == (source > 0)
    device = TrainingData(config(pairs, root=str(pairs), train=sources, mode="device"), batch_size=28, seed=0)
    ((rainy, clean),) = made(device, 1)
    np.testing.assert_array_equal(np.round(clean * 255), batch["clean"])
    for row, source in enumerate(batch["source"]):
        if source == 0:
            np.testing.assert_array_equal(np.round((rainy - clean)[row, ..., 0] * 255), 100)
        else:
            style = ["heavy", "light"][source - 1]
            expected, _ = jax.jit(add_rain, static_argnums=2)(rain_key(0, row), clean[row], style)
            np.testing.assert_allclose(rainy[row], expected, atol=0.5 / 255 + 1e-5)


def test_real_rain_gives_both_sides_in_training_and_in_frozen_sets(pairs):
    sources = (
        SourceConfig(dataset="clean", root="norain", rain="real"),
        SourceConfig(dataset="clean", root="norain", rain="identity"),
    )
    data = TrainingData(config(pairs, root=str(pairs), train=sources, held_out=1), batch_size=12, seed=0)
    (batch,), ((rainy, clean),) = take(data, 1), made(data, 1)
    photographs = batch["clean"] / np.float32(255)
    real = batch["source"] == 0
    for side in (rainy, clean):
        np.testing.assert_allclose(side[~real], photographs[~real], atol=1e-7)
        np.testing.assert_allclose(side * 255, np.round(side * 255), atol=1e-4)
    # The camera leaves the scene as it is but for noise, blur and JPEG; by night it is darker.
    seen = [np.corrcoef(clean[row].ravel(), photographs[row].ravel())[0, 1] for row in np.flatnonzero(real)]
    assert 0.8 < np.median(seen) < 1 - 1e-6
    assert np.abs(rainy - clean)[real].max() > 0.1
    rainy, clean = data.held_out.load(0)
    again = data.held_out.load(0)
    np.testing.assert_array_equal(np.stack(again), np.stack([rainy, clean]))
    assert (rainy != clean).any()
    assert (clean != scene(0, *SIZES[0])).any()


def test_held_out_pictures_are_spread_over_the_names_and_never_trained_on(pairs):
    data = TrainingData(config(pairs, held_out=2), 5, seed=0)
    assert [data.held_out.name(index) for index in range(len(data.held_out))] == ["0", "3"]
    assert data.pictures == 5
    _, clean = data.held_out.load(1)
    np.testing.assert_array_equal(clean, scene(3, *SIZES[3]))
    ((_, clean),) = made(data, 1)
    assert sorted(np.round(clean[:, 0, 0, 0] * 255)) == [1, 2, 4, 5, 6]
    with pytest.raises(DataError, match="held_out is 7, but there are only 7 training pictures"):
        TrainingData(config(pairs, held_out=7), 5, seed=0)


def test_rains_over_a_held_out_background_are_not_trained_on(tmp_path):
    for n in (1, 2, 3):
        for name in (f"rainy_image/{n}_1.png", f"rainy_image/{n}_2.png", f"ground_truth/{n}.png"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            Image.fromarray(scene(n, 32, 32)).save(tmp_path / name)
    data = TrainingData(config(tmp_path, held_out=1), 2, seed=0)
    assert data.held_out.name(0) == "1_1"
    assert data.pictures == 4
    for _, clean in made(data, 4):
        assert not (np.round(clean * 255)[..., 0] == 1).any()


@pytest.fixture
def two_rains(tmp_path):
    """Four scenes under two rains: rain/heavy/N.png and rain/light/N.png over norain/N.png."""
    for n in range(4):
        for name in (f"rain/heavy/{n}.png", f"rain/light/{n}.png", f"norain/{n}.png"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene(n, 32, 32)).save(tmp_path / name)
    (tmp_path / "linked").mkdir()
    for n in range(4):
        (tmp_path / "linked" / f"copy-of-{n}.png").symlink_to(tmp_path / "norain" / f"{n}.png")
    return tmp_path


@pytest.mark.parametrize(
    ("held_out", "count", "others", "scenes", "left"),
    [
        (("folder", "."), 1, [], {0}, 6),  # of heavy-0, heavy-1, … light-3: rains over a scene are no neighbours
        (("folder", "."), 4, [("clean", "norain"), ("clean", "./rain/../norain/")], {0, 2}, 8),
        (("clean", "norain"), 2, [("clean", "norain/"), ("folder", ""), ("clean", "linked")], {0, 2}, 10),
    ],
)
def test_scenes_held_out_are_not_trained_on_through_any_source(two_rains, held_out, count, others, scenes, left):
    def source(dataset, root, **fields):
        return SourceConfig(dataset=dataset, root=root, rain="none" if dataset == "folder" else "light", **fields)

    sources = (source(*held_out, held_out=count), *(source(*other) for other in others))
    data = TrainingData(config(two_rains, root=str(two_rains), train=sources), left, seed=0)
    assert len(data.held_out) == count
    assert {int(data.held_out.load(index)[1][0, 0, 0]) for index in range(count)} == scenes
    assert data.pictures == left
    ((_, clean),) = made(data, 1)
    assert set(np.round(clean[:, 0, 0, 0] * 255)) == {0, 1, 2, 3} - scenes


def test_prepared_sets_hold_out_neighbours_of_one_name_in_every_source_of_the_set(tmp_path, monkeypatch):
    class Prepared(PreparedPairs):
        def __init__(self, dataset, data_dir, split):
            self._where = (dataset, data_dir, split)
            self.backgrounds = ["a", "a", "b", "b", "a", "c"]  # the later a is of another folder

        def __len__(self):
            return len(self.backgrounds)

        def background(self, index):
            return self.backgrounds[index]

    monkeypatch.setattr("multifocal_jax.data.prepared.PreparedPairs", Prepared)
    sources = (
        SourceConfig(dataset="rain200h", reader="tfds", root="tfds", held_out=1),
        SourceConfig(dataset="rain200h", reader="tfds", root="tfds/"),
        SourceConfig(dataset="rain200l", reader="tfds", root="tfds"),
    )
    data = TrainingData(config(tmp_path, root=str(tmp_path), train=sources), 1, seed=0)
    kept = [(source, index) for source, index in data._pictures.table.tolist()]
    assert kept == [(0, 2), (0, 3), (0, 4), (0, 5), (1, 2), (1, 3), (1, 4), (1, 5), *((2, index) for index in range(6))]


def test_held_out_pictures_are_checked_by_name(tmp_path):
    for side in ("rain", "norain"):
        (tmp_path / side).mkdir()
        for number in range(4):
            Image.fromarray(scene(number, 40, 40 if number else 10)).save(tmp_path / side / f"{number}.png")
    data = TrainingData(config(tmp_path, held_out=2), 2, seed=0)
    data.check_held_out(10)
    with pytest.raises(DataError, match="held-out picture 0 is 10x40; a score takes at least 11x11"):
        data.check_held_out(11)
    path = damaged(tmp_path, 2)
    with pytest.raises(ImageError, match=f"{path} cannot be read"):
        data.check_held_out(10)


def test_held_out_rain_is_frozen(pairs):
    sources = (SourceConfig(dataset="clean", root=str(pairs / "norain"), rain="light"),)
    held_out = TrainingData(config(pairs, train=sources, held_out=2), 5, seed=0).held_out
    later = TrainingData(config(pairs, train=sources, held_out=2), 5, seed=1).held_out
    np.testing.assert_array_equal(held_out.load(1)[0], later.load(1)[0])
    np.testing.assert_array_equal(held_out.load(1)[0], open_source(sources[0]).load(3)[0])


def damaged(root, number):
    path = root / "rain" / f"{number}.png"
    path.write_bytes(path.read_bytes()[:-40])
    return path


@pytest.fixture
def broken(tmp_path):
    for side in ("rain", "norain"):
        (tmp_path / side).mkdir()
        for number in range(5):
            Image.fromarray(scene(number, 40, 40)).save(tmp_path / side / f"{number}.png")
    damaged(tmp_path, 4)
    return tmp_path


@pytest.mark.parametrize("mode", ["device", "memory", "stream"])
def test_a_broken_picture_stops_training_by_name(broken, mode):
    with pytest.raises(ImageError, match=r"rain/4\.png cannot be read.*on_broken='skip'"):
        take(TrainingData(config(broken, mode=mode), 5, seed=0), 1)


def test_a_broken_picture_is_skipped_and_counted_alike_in_every_mode(broken, caplog):
    reference = None
    for mode, workers in (("memory", 0), ("device", 0), ("stream", 0), ("stream", 1)):
        data = TrainingData(config(broken, mode=mode, workers=workers, on_broken="skip"), 5, seed=0)
        pairs = made(data, 2)
        assert data.skipped == 1
        assert data.pictures == 5
        reference = reference or pairs
        assert_same(pairs, reference)
    assert "4.png" in caplog.text
    numbers = np.round(reference[0][1][:, 0, 0, 0] * 255)
    assert sorted(numbers) == [0, 0, 1, 2, 3]  # the next picture, the first one, takes the place


@pytest.mark.parametrize("mode", ["device", "memory", "stream"])
def test_a_broken_picture_is_replaced_from_its_own_source(broken, tmp_path, mode):
    (tmp_path / "photographs").mkdir()
    Image.fromarray(scene(9, 40, 40)).save(tmp_path / "photographs" / "9.png")
    sources = (
        SourceConfig(dataset="folder", root="rain/.."),
        SourceConfig(dataset="clean", root="photographs", rain="heavy"),
    )
    data = TrainingData(config(broken, root=str(broken), train=sources, mode=mode, on_broken="skip"), 6, seed=0)
    ((_, clean),) = made(data, 1)
    assert sorted(np.round(clean[:, 0, 0, 0] * 255)) == [0, 0, 1, 2, 3, 9]
    for number in range(4):
        damaged(broken, number)
    data = TrainingData(config(broken, root=str(broken), train=sources, mode=mode, on_broken="skip"), 6, seed=0)
    with pytest.raises(DataError, match="nor can any that could take its place"):  # a photograph has no real rain
        made(data, 1)
    (tmp_path / "photographs" / "9.png").write_bytes(b"")
    alone = TrainingData(config(tmp_path, root=str(tmp_path), train=sources[1:], on_broken="skip"), 6, seed=0)
    with pytest.raises(DataError, match="picture 9 cannot be read, nor"):
        made(alone, 1)


def test_a_broken_photograph_is_replaced_by_any_where_its_source_has_no_other(broken):
    (broken / "photographs").mkdir()
    (broken / "photographs" / "9.png").write_bytes(b"")
    sources = (
        SourceConfig(dataset="clean", root="photographs", rain="heavy"),
        SourceConfig(dataset="folder", root="rain/.."),
    )
    data = TrainingData(config(broken, root=str(broken), train=sources, on_broken="skip"), 6, seed=0)
    ((rainy, clean),) = made(data, 1)
    assert sorted(np.round(clean[:, 0, 0, 0] * 255)) == [0, 0, 0, 1, 2, 3]
    assert data.skipped == 2
    assert (rainy != clean).any(axis=(1, 2, 3)).sum() == 1


def test_crops_are_the_same_with_64_bit_types(pairs):
    reference = made(TrainingData(config(pairs, mode="device", flips=True), 4, seed=5), 2)
    with jax.enable_x64(True):
        assert_same(made(TrainingData(config(pairs, mode="device", flips=True), 4, seed=5), 2), reference)


@pytest.mark.parametrize("mode", ["memory", "stream"])
def test_when_nothing_can_be_read_training_stops(broken, mode):
    for number in range(4):
        damaged(broken, number)
    with pytest.raises(DataError, match=r"training picture \d cannot be read, nor can any that could take its place"):
        take(TrainingData(config(broken, mode=mode, on_broken="skip"), 5, seed=0), 1)


@pytest.mark.parametrize("mode", ["memory", "stream"])
def test_a_crop_larger_than_a_picture_is_refused_by_name(pairs, mode):
    with pytest.raises(DataError, match=r"picture \d is \d+x\d+, smaller than the crop of 40x40; set data.crop_size"):
        take(TrainingData(config(pairs, mode=mode, crop_size=40), 7, seed=0), 1)


def test_a_batch_that_does_not_divide_is_refused(pairs):
    with pytest.raises(DataError, match="batch_size 5 does not divide over 2 processes"):
        TrainingData(config(pairs), 5, seed=0, process_index=0, process_count=2)


def test_too_many_pixels_for_the_device_are_refused(pairs, monkeypatch):
    huge = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (2**16, 2**15, 3))
    data = TrainingData(config(pairs, mode="device"), 7, seed=0)
    monkeypatch.setattr(crops.PictureStore, "decode_all", lambda *_: None)
    monkeypatch.setattr(crops.PictureStore, "load", lambda _, number: (None, huge if number == 3 else huge[:0]))
    with pytest.raises(DataError, match=r"2,147,483,648 pixels.*set data.mode to 'memory' or 'stream'"):
        _ = data.resident


def test_auto_chooses_by_size_and_accelerator(pairs, monkeypatch):
    def mode(limit=8.0):
        return TrainingData(config(pairs, mode="auto", memory_limit=limit), 7, seed=0).mode

    assert mode() == "memory"
    assert mode(limit=1e-6) == "stream"
    monkeypatch.setattr(pipeline.jax, "default_backend", lambda: "gpu")
    assert mode() == "device"
    pixels = sum(height * width for height, width in SIZES)
    assert mode(limit=6 * pixels / 2**30 * 1.01) == "device"
    assert mode(limit=6 * pixels / 2**30 * 0.99) == "stream"


def test_the_demo_is_the_default():
    data = TrainingData(DataConfig(crop_size=32), 4, seed=0)
    assert data.pictures == 5
    ((rainy, clean),) = made(data, 1)
    assert (rainy >= clean - 1e-6).all()
    assert rainy.mean() > clean.mean() + 0.02


@pytest.mark.parametrize("mode", ["memory", "device"])
def test_memory_and_device_modes_need_no_data_libraries(pairs, mode):
    # A machine with an accelerator may lack them; None in sys.modules makes an import fail.
    script = f"""
import sys
for name in ("grain", "tensorflow_datasets", "array_record", "tensorflow", "torch", "skimage"):
    sys.modules[name] = None
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if sys.modules.get(name, 0) is None else find(name, *rest)
from multifocal_jax.config import DataConfig, SourceConfig
from multifocal_jax.data.pipeline import TrainingData
source = SourceConfig(dataset="folder", root={str(pairs)!r})
data = TrainingData(DataConfig(train=(source,), crop_size=32, mode={mode!r}), 4, 0)
batch = next(iter(data.batches(0)))
print(data.prepare(data.resident, batch)[0].shape)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(4, 32, 32, 3)", done.stderr


def test_streaming_without_grain_says_how_to_get_it(pairs, monkeypatch):
    monkeypatch.setattr(pipeline, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install grain"):
        take(TrainingData(config(pairs, mode="stream"), 4, seed=0), 1)


def test_a_source_holds_out_its_own_pictures_and_no_other_source_of_the_set_trains_on_them(pairs):
    sources = (
        SourceConfig(dataset="folder", root="rain/..", held_out=2),
        SourceConfig(dataset="folder", root="rain/..", rain="light"),
        SourceConfig(dataset="folder", root="rain/..", rain="identity"),
    )
    data = TrainingData(config(pairs, root=str(pairs), train=sources), 15, seed=0)
    assert [data.held_out.name(index) for index in range(len(data.held_out))] == ["0-0", "0-3"]
    assert [len(data.held_out_of(number)) for number in range(3)] == [2, 0, 0]
    assert data.held_out_of(0).name(1) == "3"
    assert data.pictures == 15
    ((_, clean),) = made(data, 1)
    assert sorted(np.round(clean[:, 0, 0, 0] * 255)) == sorted([1, 2, 4, 5, 6] * 3)


def test_pictures_held_out_of_all_sources_are_never_those_paired_with_themselves(pairs):
    sources = (
        SourceConfig(dataset="folder", root="rain/..", rain="identity"),
        SourceConfig(dataset="folder", root="rain/.."),
    )
    held_out = TrainingData(config(pairs, root=str(pairs), train=sources, held_out=6), 1, seed=0).held_out
    assert {held_out.name(index)[0] for index in range(len(held_out))} == {"1"}


def test_excluded_pictures_are_not_trained_on(pairs):
    sources = (SourceConfig(dataset="folder", root="rain/..", exclude=("1", "6"), held_out=2),)
    data = TrainingData(config(pairs, root=str(pairs), train=sources), 3, seed=0)
    assert [data.held_out.name(index) for index in range(2)] == ["0", "3"]
    ((_, clean),) = made(data, 1)
    assert sorted(np.round(clean[:, 0, 0, 0] * 255)) == [2, 4, 5]
    first = (SourceConfig(dataset="folder", root="rain/..", exclude=("0", "6")),)
    other = TrainingData(config(pairs, root=str(pairs), train=first, held_out=2), 3, seed=0).held_out
    assert [other.name(index) for index in range(2)] == ["1", "3"]  # an excluded one is not scored either
    wrong = (SourceConfig(dataset="folder", root="rain/..", exclude=("1", "Lenna")),)
    with pytest.raises(DataError, match=r"data.train.0.exclude names pictures that folder does not have: Lenna"):
        TrainingData(config(pairs, root=str(pairs), train=wrong), 3, seed=0)


@pytest.mark.parametrize("mode", ["device", "memory"])
def test_identity_pairs_have_no_rain(pairs, mode):
    alone = (SourceConfig(dataset="clean", root="norain", rain="identity"),)
    mixed = (
        *alone,
        SourceConfig(dataset="clean", root="norain", rain="heavy"),
        SourceConfig(dataset="folder", root="rain/.."),
    )
    for sources in (alone, mixed[:2], mixed):
        data = TrainingData(config(pairs, root=str(pairs), train=sources, mode=mode), 7, seed=0)
        for (rainy, clean), batch in zip(made(data, 3), take(data, 3), strict=True):
            source = batch.get("source", np.zeros(7, int))
            assert [bool((rainy[row] == clean[row]).all()) for row in range(7)] == (source == 0).tolist()


def test_identity_is_read_as_two_equal_sides(pairs):
    rainy, clean = open_source(SourceConfig(dataset="clean", root=str(pairs / "norain"), rain="identity")).load(2)
    np.testing.assert_array_equal(rainy, clean)
    np.testing.assert_array_equal(clean, scene(2, *SIZES[2]))
