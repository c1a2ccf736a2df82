import itertools
import subprocess
import sys

import jax
import numpy as np
import pytest

from multifocal_jax.config import DataConfig, SourceConfig
from multifocal_jax.data import crops, pipeline
from multifocal_jax.data.errors import DataError, ImageError
from multifocal_jax.data.pipeline import TrainingData
from multifocal_jax.data.prepared import PreparedPairs
from multifocal_jax.data.rain import add_rain, rain_key
from multifocal_jax.data.sources import open_source
from tests.data.helpers import save

pytestmark = pytest.mark.usefixtures("unoptimised")

SIZES = [(40, 56), (56, 40), (33, 47), (48, 48), (64, 32), (32, 32), (50, 41)]  # height and width
PAIRS = SourceConfig(dataset="folder")
HEAVY, LIGHT, REAL, IDENTITY = (
    SourceConfig(dataset="clean", root="norain", rain=style) for style in ("heavy", "light", "real", "identity")
)
MODES = pytest.mark.parametrize("mode", ["device", "memory", "stream"])


def folder(**fields):
    """The pairs, by another path."""
    return SourceConfig(dataset="folder", root="rain/..", **fields)


def scene(number, height, width):
    """A picture whose pixels say where they come from: its number, row and column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([np.full((height, width), number), rows, columns], -1).astype(np.uint8)


def write_pairs(root, sizes, above=0):
    """Scenes 0, 1, …; the rainy side has `above` added to its number."""
    for number, size in enumerate(sizes):
        save(root / f"rain/{number}.png", scene(number + above, *size))
        save(root / f"norain/{number}.png", scene(number, *size))
    return root


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs"), SIZES, above=100)


def open_data(folder, batch_size=4, seed=0, process=(0, 1), train=(PAIRS,), **fields):
    fields = {"crop_size": 32, "mode": "memory", "root": str(folder)} | fields
    return TrainingData(DataConfig(train=train, **fields), batch_size, seed, *process)


def take(data, count=1, start=0):
    iterator = data.batches(start)
    batches = list(itertools.islice(iterator, count))
    close = getattr(iterator, "close", None)
    if close:
        close()
    return batches


def made(data, count=1, start=0):
    """Pairs as the step sees them."""
    resident = jax.device_put(data.resident)
    prepare = jax.jit(data.prepare)
    return [tuple(map(np.asarray, prepare(resident, batch))) for batch in take(data, count, start)]


def numbers(data, count=1):
    """Those of the scenes in the first batches, sorted."""
    return sorted(np.concatenate([batch["clean"][:, 0, 0, 0] for batch in take(data, count)]))


def assert_same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def assert_rain(rainy, clean, index, style, seed=0):
    """A crop has the rain of its number."""
    expected, _ = jax.jit(add_rain, static_argnums=2)(rain_key(seed, index), clean, style)
    np.testing.assert_allclose(rainy, expected, atol=0.5 / 255 + 1e-5)


def test_crops_are_aligned_and_cover_the_epoch(pairs):
    data = open_data(pairs, 7, seed=1)
    assert data.pictures == 7
    ((rainy, clean),) = made(data)
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
    reference = made(open_data(pairs, seed=5, **extra), 6)
    for mode in ("device", "stream"):
        assert_same(made(open_data(pairs, seed=5, mode=mode, **extra), 6), reference)
    for mode in ("memory", "stream"):
        assert_same(made(open_data(pairs, seed=5, mode=mode, **extra), 2, start=4), reference[4:])
    other = made(open_data(pairs, seed=6, **extra))
    assert not np.array_equal(other[0][1], reference[0][1])


@MODES
@pytest.mark.parametrize("processes", [2, 4])
def test_any_number_of_processes_gives_the_same_batches(pairs, mode, processes):
    reference = made(open_data(pairs, seed=2), 3)
    parts = [made(open_data(pairs, seed=2, mode=mode, process=(p, processes)), 3) for p in range(processes)]
    joined = [tuple(np.concatenate([part[t][side] for part in parts]) for side in range(2)) for t in range(3)]
    assert_same(joined, reference)


def test_device_mode_agrees_beyond_its_blocks_of_positions(pairs):
    far = crops._BLOCK - 1
    reference = made(open_data(pairs, seed=5), 3, start=far)
    assert_same(made(open_data(pairs, seed=5, mode="device"), far + 3)[far:], reference)


def test_turns_are_those_of_numpy(pairs):
    plain = made(open_data(pairs, 8), 3)
    turned = open_data(pairs, 8, flips=True, rotations=True)
    for before, after, batch in zip(plain, made(turned, 3), take(turned, 3), strict=True):
        for row, (flip, turns) in enumerate(zip(batch["flip"], batch["turns"], strict=True)):
            for plain_side, turned_side in zip(before, after, strict=True):
                expected = np.fliplr(plain_side[row]) if flip else plain_side[row]
                np.testing.assert_array_equal(turned_side[row], np.rot90(expected, turns))


def test_rain_is_fresh_for_every_crop_and_a_function_of_seed_and_index(pairs):
    fields = {"train": (SourceConfig(dataset="folder", rain="light"),), "seed": 9}
    reference = made(open_data(pairs, **fields), 3)
    assert_same(made(open_data(pairs, mode="device", **fields), 3), reference)
    assert "rainy" not in take(open_data(pairs, **fields))[0]
    rainy, clean = reference[2]
    for row in range(4):
        assert_rain(rainy[row], clean[row], 8 + row, "light", seed=9)
    np.testing.assert_allclose(rainy * 255, np.round(rainy * 255), atol=1e-4)


def test_sources_are_mixed_by_their_repeats(pairs):
    sources = (SourceConfig(dataset="folder", repeat=2), HEAVY, LIGHT)
    data = open_data(pairs, 28, train=sources)
    assert data.pictures == 28
    (batch,) = take(data)
    assert np.bincount(batch["source"]).tolist() == [14, 7, 7]
    for row, source in enumerate(batch["source"]):
        assert (batch["rainy"][row] == batch["clean"][row]).all() == (source > 0)
    ((rainy, clean),) = made(open_data(pairs, 28, train=sources, mode="device"))
    np.testing.assert_array_equal(np.round(clean * 255), batch["clean"])
    for row, source in enumerate(batch["source"]):
        if source == 0:
            np.testing.assert_array_equal(np.round((rainy - clean)[row, ..., 0] * 255), 100)
        else:
            assert_rain(rainy[row], clean[row], row, sources[source].rain)


def test_real_rain_gives_both_sides_in_training_and_in_frozen_sets(pairs):
    data = open_data(pairs, 12, train=(REAL, IDENTITY), held_out=1)
    (batch,), ((rainy, clean),) = take(data), made(data)
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
    np.testing.assert_array_equal(np.stack(data.held_out.load(0)), np.stack([rainy, clean]))
    assert (rainy != clean).any()
    assert (clean != scene(0, *SIZES[0])).any()


@pytest.mark.parametrize(
    ("sources", "held_out", "names", "trained"),
    [
        ([PAIRS], 2, ["0", "3"], [1, 2, 4, 5, 6]),  # evenly spaced over the names
        # a source's own; no other source of the set trains on them
        ([folder(held_out=2), folder(rain="light"), folder(rain="identity")], 0, ["0-0", "0-3"], [1, 2, 4, 5, 6] * 3),
        ([folder(exclude=("1", "6"), held_out=2)], 0, ["0", "3"], [2, 4, 5]),
        ([folder(exclude=("0", "6"))], 2, ["1", "3"], [2, 4, 5]),  # an excluded one is not scored either
        # nor is one that is paired with itself
        ([folder(rain="identity"), folder()], 6, [f"1-{n}" for n in range(6)], [6, 6]),
    ],
)
def test_held_out_and_excluded_pictures_are_not_trained_on(pairs, sources, held_out, names, trained):
    data = open_data(pairs, len(trained), train=tuple(sources), held_out=held_out)
    assert [data.held_out.name(index) for index in range(len(data.held_out))] == names
    assert data.pictures == len(trained)
    assert numbers(data) == sorted(trained)
    for index, name in enumerate(names):
        number = int(name[-1])
        np.testing.assert_array_equal(data.held_out.load(index)[1], scene(number, *SIZES[number]))


def test_held_out_pictures_of_one_source(pairs):
    data = open_data(pairs, train=(folder(held_out=2), folder(rain="light")))
    assert [len(data.held_out_of(number)) for number in range(2)] == [2, 0]
    assert data.held_out_of(0).name(1) == "3"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"held_out": 7}, "held_out is 7, but there are only 7 training pictures"),
        ({"batch_size": 5, "process": (0, 2)}, "batch_size 5 does not divide over 2 processes"),
        (
            {"train": (folder(exclude=("1", "Lenna")),)},
            r"data.train.0.exclude names pictures that folder does not have: Lenna",
        ),
    ],
)
def test_data_that_cannot_be_opened(pairs, fields, message):
    with pytest.raises(DataError, match=message):
        open_data(pairs, **fields)


@pytest.fixture
def two_rains(tmp_path):
    """Four scenes under two rains: rain/heavy/N.png and rain/light/N.png over norain/N.png."""
    (tmp_path / "linked").mkdir()
    for n in range(4):
        for folder in ("rain/heavy", "rain/light", "norain"):
            save(tmp_path / folder / f"{n}.png", scene(n, 32, 32))
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

    data = open_data(two_rains, left, train=(source(*held_out, held_out=count), *(source(*other) for other in others)))
    assert len(data.held_out) == count
    assert {int(data.held_out.load(index)[1][0, 0, 0]) for index in range(count)} == scenes
    assert data.pictures == left
    assert set(numbers(data)) == {0, 1, 2, 3} - scenes


def test_prepared_sets_hold_out_neighbours_of_one_name_in_every_source_of_the_set(tmp_path, monkeypatch):
    class Prepared(PreparedPairs):
        def __init__(self, dataset, data_dir, split):
            self._where = (dataset, data_dir, split)
            self.backgrounds = ["a", "a", "b", "b", "a", "c"]  # the later a is of another folder

        def __len__(self):
            return len(self.backgrounds)

        def background(self, index):
            return self.backgrounds[index]

    monkeypatch.setattr("multifocal_jax.data.sources.PreparedPairs", Prepared)
    sources = (
        SourceConfig(dataset="rain200h", reader="tfds", root="tfds", held_out=1),
        SourceConfig(dataset="rain200h", reader="tfds", root="tfds/"),
        SourceConfig(dataset="rain200l", reader="tfds", root="tfds"),
    )
    kept = open_data(tmp_path, 1, train=sources)._pictures.table.tolist()
    assert kept == [[0, 2], [0, 3], [0, 4], [0, 5], [1, 2], [1, 3], [1, 4], [1, 5], *([2, index] for index in range(6))]


def test_held_out_pictures_are_checked_by_name(tmp_path):
    write_pairs(tmp_path, [(40, 10), (40, 40), (40, 40), (40, 40)])
    data = open_data(tmp_path, held_out=2)
    data.check_held_out(10)
    with pytest.raises(DataError, match="held-out picture 0 is 10x40; a score takes at least 11x11"):
        data.check_held_out(11)
    path = damaged(tmp_path, 2)
    with pytest.raises(ImageError, match=f"{path} cannot be read"):
        data.check_held_out(10)


def test_held_out_rain_is_frozen(pairs):
    held_out, later = (open_data(pairs, seed=seed, train=(LIGHT,), held_out=2).held_out for seed in (0, 1))
    np.testing.assert_array_equal(held_out.load(1)[0], later.load(1)[0])
    np.testing.assert_array_equal(held_out.load(1)[0], open_source(LIGHT, str(pairs)).load(3)[0])


def damaged(root, number):
    path = root / "rain" / f"{number}.png"
    path.write_bytes(path.read_bytes()[:-40])
    return path


@pytest.fixture
def broken(tmp_path):
    """Five pairs, the last of them damaged."""
    write_pairs(tmp_path, [(40, 40)] * 5)
    damaged(tmp_path, 4)
    return tmp_path


@MODES
def test_a_broken_picture_stops_training_by_name(broken, mode):
    with pytest.raises(ImageError, match=r"rain/4\.png cannot be read.*on_broken='skip'"):
        take(open_data(broken, mode=mode))


def test_a_broken_picture_is_skipped_and_counted_alike_in_every_mode(broken, caplog):
    reference = None
    for mode, workers in (("memory", 0), ("device", 0), ("stream", 0), ("stream", 1)):
        data = open_data(broken, 5, mode=mode, workers=workers, on_broken="skip")
        pairs = made(data, 2)
        assert data.skipped == 1
        assert data.pictures == 5
        reference = reference or pairs
        assert_same(pairs, reference)
    assert "4.png" in caplog.text
    # the next picture, the first one, takes the place
    assert sorted(np.round(reference[0][1][:, 0, 0, 0] * 255)) == [0, 0, 1, 2, 3]


@MODES
def test_a_broken_picture_is_replaced_from_its_own_source(broken, mode):
    save(broken / "photographs/9.png", scene(9, 40, 40))
    photographs = SourceConfig(dataset="clean", root="photographs", rain="heavy")

    def opened(*sources):
        return open_data(broken, 6, train=sources, mode=mode, on_broken="skip")

    ((_, clean),) = made(opened(folder(), photographs))
    assert sorted(np.round(clean[:, 0, 0, 0] * 255)) == [0, 0, 1, 2, 3, 9]
    for number in range(4):
        damaged(broken, number)
    with pytest.raises(DataError, match="nor can any that could take its place"):  # a photograph has no real rain
        take(opened(folder(), photographs))
    (broken / "photographs" / "9.png").write_bytes(b"")
    with pytest.raises(DataError, match="picture 9 cannot be read, nor"):
        take(opened(photographs))


def test_a_broken_photograph_is_replaced_by_any_where_its_source_has_no_other(broken):
    (broken / "photographs").mkdir()
    (broken / "photographs" / "9.png").write_bytes(b"")
    sources = (SourceConfig(dataset="clean", root="photographs", rain="heavy"), folder())
    data = open_data(broken, 6, train=sources, on_broken="skip")
    ((rainy, clean),) = made(data)
    assert sorted(np.round(clean[:, 0, 0, 0] * 255)) == [0, 0, 0, 1, 2, 3]
    assert data.skipped == 2
    assert (rainy != clean).any(axis=(1, 2, 3)).sum() == 1


def test_crops_are_the_same_with_64_bit_types(pairs):
    fields = {"mode": "device", "flips": True, "seed": 5}
    reference = made(open_data(pairs, **fields), 2)
    with jax.enable_x64(True):
        assert_same(made(open_data(pairs, **fields), 2), reference)


@pytest.mark.parametrize("mode", ["memory", "stream"])
def test_a_crop_larger_than_a_picture_is_refused_by_name(pairs, mode):
    with pytest.raises(DataError, match=r"picture \d is \d+x\d+, smaller than the crop of 40x40; set data.crop_size"):
        take(open_data(pairs, 7, mode=mode, crop_size=40))


def test_a_picture_smaller_than_the_crop_may_be_skipped_like_a_broken_one(broken, caplog):
    save(broken / "rain" / "4.png", scene(4, 20, 40))
    save(broken / "norain" / "4.png", scene(4, 20, 40))
    reference = None
    for mode in ("memory", "device", "stream"):
        data = open_data(broken, 5, mode=mode, crop_size=32, on_broken="skip")
        pairs = made(data)
        assert (data.skipped, data.pictures) == (1, 5)
        reference = reference or pairs
        assert_same(pairs, reference)
    assert "skipped: picture 4 is 40x20, smaller than the crop of 32x32" in caplog.text


def test_too_many_pixels_for_the_device_are_refused(pairs, monkeypatch):
    huge = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (2**16, 2**15, 3))
    monkeypatch.setattr(crops.PictureStore, "decode_all", lambda *_: None)
    monkeypatch.setattr(crops.PictureStore, "load", lambda _, number: (None, huge if number == 3 else huge[:0]))
    with pytest.raises(DataError, match=r"2,147,483,648 pixels.*set data.mode to 'memory' or 'stream'"):
        _ = open_data(pairs, mode="device").resident
    monkeypatch.setattr(pipeline.jax, "default_backend", lambda: "gpu")
    data = open_data(pairs, mode="auto")  # which has read the headers of the small ones
    assert data.mode == "device"
    assert data.resident == ()
    assert data.mode == "memory"


def test_auto_chooses_by_size_and_accelerator(pairs, monkeypatch):
    def mode(limit=8.0):
        return open_data(pairs, mode="auto", memory_limit=limit).mode

    assert mode() == "memory"
    assert mode(limit=1e-6) == "stream"
    monkeypatch.setattr(pipeline.jax, "default_backend", lambda: "gpu")
    assert mode() == "device"
    pixels = sum(height * width for height, width in SIZES)
    assert mode(limit=6 * pixels / 2**30 * 1.01) == "device"
    assert mode(limit=6 * pixels / 2**30 * 0.99) == "stream"


@pytest.mark.parametrize("quiet", [True, False])
def test_bars_on_a_terminal_unless_quiet(pairs, monkeypatch, capsys, quiet):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    config = DataConfig(root=str(pairs), train=(PAIRS,), crop_size=32, mode="memory", held_out=1)
    data = TrainingData(config, 4, seed=0, quiet=quiet)
    data.check_held_out(11)
    take(data)
    shown = capsys.readouterr().err
    assert [title in shown for title in ("checking held-out pictures", "decoding")] == [not quiet] * 2


def test_the_demo_is_the_default():
    data = TrainingData(DataConfig(crop_size=32), 4, seed=0)
    assert data.pictures == 5
    ((rainy, clean),) = made(data)
    assert (rainy >= clean - 1e-6).all()
    assert rainy.mean() > clean.mean() + 0.02


def test_memory_and_device_modes_need_no_data_libraries(pairs):
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
for mode in ("memory", "device"):
    data = TrainingData(DataConfig(train=(source,), crop_size=32, mode=mode), 4, 0)
    batch = next(iter(data.batches(0)))
    print(data.prepare(data.resident, batch)[0].shape)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["(4, 32, 32, 3)"] * 2, done.stderr


def test_streaming_without_grain_says_how_to_get_it(pairs, monkeypatch):
    monkeypatch.setattr(pipeline, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install grain"):
        take(open_data(pairs, mode="stream"))


@pytest.mark.parametrize("mode", ["device", "memory"])
def test_identity_pairs_have_no_rain(pairs, mode):
    for sources in ((IDENTITY,), (IDENTITY, HEAVY), (IDENTITY, HEAVY, folder())):
        data = open_data(pairs, 7, train=sources, mode=mode)
        for (rainy, clean), batch in zip(made(data, 3), take(data, 3), strict=True):
            source = batch.get("source", np.zeros(7, int))
            assert [bool((rainy[row] == clean[row]).all()) for row in range(7)] == (source == 0).tolist()


def test_identity_is_read_as_two_equal_sides(pairs):
    rainy, clean = open_source(IDENTITY, str(pairs)).load(2)
    np.testing.assert_array_equal(rainy, clean)
    np.testing.assert_array_equal(clean, scene(2, *SIZES[2]))


@pytest.mark.parametrize(("cores", "threads"), [(2, 2), (128, 16)])
def test_batches_are_read_ahead_by_the_cores_that_the_process_may_use(monkeypatch, cores, threads):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cores)), raising=False)
    assert crops.thread_count() == threads
