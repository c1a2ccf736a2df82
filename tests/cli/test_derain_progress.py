"""What `derain` says while it works, where memory is short, and how Ctrl-C ends it."""

import os
import signal
import subprocess
import sys
import time

import av
import numpy as np
import pytest
from PIL import Image

from multifocal_jax.cli.main import run
from multifocal_jax.cli.progress import Display
from multifocal_jax.evaluation import memory
from multifocal_jax.evaluation.inference import Derainer
from multifocal_jax.evaluation.progress import Running
from tests.evaluation.helpers import Program, save_tiny

PIXELS = np.random.default_rng(0).integers(0, 200, (1100, 1300, 3)).astype(np.uint8)


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    """Of `derain` for a photograph of 1300×1100, of which a tile of 1024 is the most that fits."""
    monkeypatch.setattr(Derainer, "_compiled", lambda self, shape, dtype: Program(shape))
    monkeypatch.setattr(memory, "available", lambda device: 1_000_000_000)
    monkeypatch.setattr(memory, "fixed", lambda device: 0)
    monkeypatch.setattr(memory, "_PATIENCE", (0, 0))
    Image.fromarray(PIXELS).save(tmp_path / "photo.png")
    weights = save_tiny(tmp_path / "w.safetensors")
    return [str(tmp_path / "photo.png"), "-o", str(tmp_path / "clean.png"), "--weights", weights]


def test_a_photograph_that_does_not_fit_is_taken_in_tiles_and_that_is_said_once(arguments, tmp_path, capsys):
    assert run(["derain", *arguments]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "clean.png")), PIXELS)
    lines = [line.split("\r")[-1] for line in capsys.readouterr().err.splitlines()]
    assert lines[0] == "compiling for 1300×1100, once per size"
    assert lines[1] == (
        "pictures of 1300×1100 are taken in tiles of 1024: more at once needs 1.3 GB, and 1.0 GB are free "
        "(--tile N forces, --tile 0 takes them whole or not at all)"
    )
    assert lines[2] == "compiling for 1024×1024, once per size"
    assert lines[3].startswith("1 de-rained in ")
    assert len(lines) == 4


def test_a_folder_of_one_size_is_told_once(arguments, tmp_path, capsys):
    folder = tmp_path / "holiday"
    folder.mkdir()
    for name in "ab":
        Image.fromarray(PIXELS).save(folder / f"{name}.png")
    assert run(["derain", str(folder), *arguments[1:2], str(tmp_path / "out"), *arguments[3:]]) == 0
    assert capsys.readouterr().err.count("taken in tiles") == 1


def test_whole_or_nothing(arguments, capsys):
    assert run(["derain", *arguments, "--tile", "0"]) == 1
    assert "needs 1.3 GB at once and 1.0 GB are free; tiles of 1024 pixels would fit (--tile 1024)" in (
        capsys.readouterr().err
    )


def test_quiet(arguments, capsys):
    assert run(["derain", *arguments, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_bars(capsys):
    """A whole picture by seconds, as expected or not; tiles by their number; what is over at once has none."""
    show = Display()

    def states(total, expected, *moments):
        for done, seconds in moments:
            show(Running(3024, 4032, done, total, seconds, expected))
        return capsys.readouterr().err

    assert states(1, 69.0, (0, 0.0), (0, 1.0), (1, 1.9)) == ""
    shown = states(1, 69.0, (0, 0.0), (0, 23.0), (1, 70.0))
    assert "4032×3024: 00:23 of about 01:09 |" in shown
    assert "33%" in shown
    assert "4032×3024: 00:23" in states(1, None, (0, 0.0), (0, 23.0), (1, 70.0))
    assert "2/6 [00:20<00:40, 10.00s/tile]" in states(6, None, (0, 0.0), (2, 20.0), (6, 60.0))


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(("source", "seconds"), [("picture.webp", 2), ("animation.webp", 0), ("film.mkv", 1)])
def test_ctrl_c_while_the_first_program_is_compiled(tmp_path, tmp_path_factory, source, seconds):
    """At once and in the middle: tracing and compiling the packaged network take seconds each."""
    first = Image.fromarray(PIXELS[:64, :64])
    if source == "film.mkv":
        with av.open(tmp_path / source, "w") as film:
            stream = film.add_stream("mpeg4", rate=25, width=64, height=64, pix_fmt="yuv420p")
            film.mux([*stream.encode(av.VideoFrame.from_image(first)), *stream.encode(None)])
    else:
        first.save(tmp_path / source, **({"save_all": True, "append_images": [first]} if "anim" in source else {}))
    command = [sys.executable, "-m", "multifocal_jax.cli.main", "derain", source]
    cache = {"MULTIFOCAL_CACHE": str(tmp_path_factory.mktemp("cache")), "JAX_COMPILATION_CACHE_DIR": ""}
    with subprocess.Popen(command, cwd=tmp_path, env=os.environ | cache, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        shown = process.stderr.readline()
        time.sleep(seconds)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        shown += process.stderr.read()
    assert process.returncode == 130, shown
    assert "compiling for 64×64" in shown
    assert shown.splitlines()[-1] == "interrupted"
    assert time.monotonic() - begin < 10
    assert [file.name for file in tmp_path.iterdir()] == [source]
