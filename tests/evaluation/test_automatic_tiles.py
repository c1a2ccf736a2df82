"""Which tiles are taken where memory is short, and what is told meanwhile; expected numbers by hand.

In the place of the network: a program of 800 bytes per pixel that gives back what it is given, so nothing is compiled.
A CPU's 10 % on top make 880. Beside it a picture takes 6 bytes per pixel, and 22 in tiles.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from multifocal_jax.config import ModelConfig
from multifocal_jax.evaluation import inference, memory, programs, progress
from multifocal_jax.evaluation.inference import Derainer, TooLargeError
from multifocal_jax.evaluation.progress import Compiling, Running, Tiling, in_background
from multifocal_jax.evaluation.tiles import side_within
from tests.evaluation.helpers import TINY, Program, save_tiny
from tests.launch import ROOT

FIXED = memory.fixed(jax.devices()[0])
HEIGHT, WIDTH = 1104, 1304
PIXELS = HEIGHT * WIDTH
WHOLE, TILES_OF_1024, TILES_OF_512 = 886 * PIXELS, 880 * 1024**2 + 22 * PIXELS, 880 * 512**2 + 22 * PIXELS
PICTURE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def free(monkeypatch):
    """The bytes beside the fixed ones that are free, to be changed."""
    free = [10**12]
    monkeypatch.setattr(Derainer, "_compiled", lambda self, shape, dtype: Program(shape))
    monkeypatch.setattr(memory, "available", lambda device: FIXED + free[0])
    monkeypatch.setattr(memory, "_PATIENCE", (0, 0))
    return free


@pytest.fixture
def told():
    return []


@pytest.fixture
def clean(free, told):
    return Derainer({}, TINY, tile=None, progress=told.append)


def of(kind, told, *fields):
    """The events of one kind, or these fields of them."""
    events = [event for event in told if isinstance(event, kind)]
    return [tuple(getattr(event, field) for field in fields) for event in events] if fields else events


@pytest.mark.parametrize(
    ("memory", "tile", "sizes"),
    [
        (WHOLE, 0, [(1104, 1304)]),
        (WHOLE - 1, 1024, [(1104, 1304), (1024, 1024)]),
        (1.05 * TILES_OF_1024, 1024, [(1104, 1304), (1024, 1024)]),
        (TILES_OF_1024 - 1, 512, [(1104, 1304), (512, 512)]),
        (1.05 * TILES_OF_512, 512, [(1104, 1304), (512, 512)]),
    ],
)
def test_the_largest_tiles_that_fit(clean, free, told, memory, tile, sizes):
    free[0] = int(memory)
    assert clean.planned_memory(PICTURE.shape) == WHOLE + FIXED if tile == 0 else True
    np.testing.assert_array_equal(clean(PICTURE), PICTURE)
    assert of(Compiling, told, "height", "width") == sizes
    expected = Tiling(HEIGHT, WIDTH, tile, WHOLE + FIXED, free[0] + FIXED)
    assert of(Tiling, told) == ([expected] if tile else [])


def test_pictures_of_one_size_are_taken_alike(clean, free, told):
    """Such as the frames of a video; in smaller tiles only if the first do not fit any longer."""
    free[0] = int(1.05 * TILES_OF_1024)
    clean(PICTURE)
    free[0] = 10**12
    clean(PICTURE)
    clean(PICTURE.transpose(1, 0, 2))
    assert told[-1].total == 4
    free[0] = int(1.05 * TILES_OF_512)
    clean(PICTURE)
    assert told[-1].total == 9
    assert of(Tiling, told, "tile") == [(1024,), (512,)]
    clean(PICTURE[:200])  # another size
    assert told[-1].total == 1


def test_where_no_tiles_fit(clean, free):
    free[0] = 200_000_000  # less 22 bytes per pixel, and 3 % lest it be too close: 185,547 pixels, 430²
    with pytest.raises(
        TooLargeError, match=r"1304x1104 pixels needs .* MB are free; tiles of 384 pixels would"
    ) as caught:
        clean(PICTURE)
    assert caught.value.side == 384
    assert caught.value.advice("--tile ") == f"{caught.value} (--tile 384)"
    np.testing.assert_array_equal(Derainer({}, TINY, tile=384)(PICTURE), PICTURE)
    free[0] = 20 * PIXELS
    with pytest.raises(TooLargeError, match=r"even tiles would not fit$") as caught:
        clean(PICTURE)
    assert caught.value.advice("--tile ") == str(caught.value)


@pytest.mark.parametrize("options", [{}, {"tile": 0}, {"tile": 1024}])
def test_what_is_forced_is_taken_or_refused(free, told, options):
    """Whole is the default of the class, which evaluation uses."""
    free[0] = TILES_OF_1024 - 1
    with pytest.raises(TooLargeError):
        Derainer({}, TINY, **options, progress=told.append)(PICTURE)
    assert not of(Tiling, told)


def test_devices_of_one_memory_take_their_shares_of_it(free):
    free[0] = WHOLE
    model = ModelConfig(channels=4, modules=1, heads=1, levels=2)
    with pytest.raises(TooLargeError):
        Derainer({}, model, devices=2)(PICTURE)


def test_a_device_that_runs_out_of_memory_gets_smaller_tiles(clean, told, monkeypatch):
    """As an accelerator may that does not say how much it has."""
    run = Program.__call__

    def scarce(self, params, batch, size):
        if batch.shape[1] > 512:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return run(self, params, batch, size)

    monkeypatch.setattr(Program, "__call__", scarce)
    np.testing.assert_array_equal(clean(PICTURE), PICTURE)
    assert of(Tiling, told, "tile", "free") == [(512, None)]  # half of the whole is below 1024²


def test_what_is_known_to_be_too_large_is_not_compiled(clean, free, told):
    free[0] = int(1.05 * TILES_OF_512)
    clean(PICTURE)
    clean(np.zeros((1200, 1000, 3), np.uint8))
    assert of(Compiling, told, "height", "width") == [(1104, 1304), (512, 512)]
    assert of(Tiling, told, "height", "tile") == [(1104, 512), (1200, 512)]


def test_progress_of_a_picture(free, told):
    clean = Derainer({}, TINY, tile=24, overlap=8, progress=told.append)
    clean(PICTURE[:31, :40])
    assert told[0] == Compiling(24, 24)
    running = of(Running, told, "height", "width", "done", "total", "expected")
    assert running == [(31, 40, done, 4, None) for done in range(5)]

    def cancel(_):
        raise RuntimeError("cancelled")

    with pytest.raises(RuntimeError, match="cancelled"):
        Derainer({}, TINY, progress=cancel)(PICTURE)


def test_the_last_speed_tells_how_long_a_picture_takes(free, told, tmp_path, monkeypatch):
    """Also of an earlier run, where programs are kept."""
    answer = Program.__call__
    monkeypatch.setattr(Program, "__call__", lambda *given: time.sleep(0.25) or answer(*given))
    monkeypatch.setattr(inference, "_TELLING", 0.2)
    monkeypatch.setattr(progress, "_TICK", 0.1)
    monkeypatch.setattr(programs, "_write", lambda file, program: None)  # a stand-in cannot be kept
    programs.keep_in(tmp_path)
    try:
        Derainer({}, TINY, progress=told.append)(PICTURE[:80, :80])
        tick, first = told[-2:]
        assert tick.done == 0
        assert 0.1 <= tick.seconds < first.seconds
        Derainer({}, TINY, progress=told.append)(PICTURE[:40, :80])
        next(tmp_path.glob("*.speed")).write_text("damaged")
        assert not Derainer({}, TINY)._speed
    finally:
        programs.keep_in(None)
    assert told[-1].expected == pytest.approx(first.seconds / 2, rel=0.1)
    Derainer({}, TINY, progress=told.append)(PICTURE[:80, :80])
    assert told[-1].expected is None


def test_an_error_in_the_background_is_not_taken_for_waiting():
    def late():
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        in_background(late)


@pytest.mark.parametrize(
    ("pixels", "shape", "side"),
    [(63 * 63, (1000, 400), 0), (100 * 100, (1000, 400), 64), (400 * 700, (400, 1000), 640)],
)
def test_the_side_of_a_tile_by_its_pixels(pixels, shape, side):
    """Beyond the shorter side of the picture, a tile is cut to it."""
    assert side_within(pixels, *shape) == side


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone tells the peak of a process")
@pytest.mark.parametrize("weights", ["tiny", pytest.param("general-small", marks=pytest.mark.slow)])
def test_the_plan_does_not_fall_short_of_what_is_used(weights, tmp_path):
    """In a process of its own, whose peak is reset after compiling."""
    code = """
import sys, numpy as np
from pathlib import Path
from multifocal_jax import load
def status(key):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key))
clean, image = load(sys.argv[1], tile=0), np.random.default_rng(0).integers(0, 256, (1536, 1024, 3), np.uint8)
planned = clean.planned_memory(image.shape)
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
clean(image)
print(planned, status("VmHWM") - before)
"""
    weights = save_tiny(tmp_path / "w.safetensors") if weights == "tiny" else weights
    environment = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}  # one device
    command = [sys.executable, "-c", code, weights]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    planned, used = map(int, done.stdout.split())
    assert used < planned < 10 * used
