"""As users do it: photographs in, training, scores, a de-rained picture; and the package from its wheel."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.helpers import NEEDING
from tests.launch import ROOT

SMALL = ["model.channels=8", "model.modules=0", "data.crop_size=32", "train.batch_size=2", "train.steps=6"]


def run(*command, folder, status=0, **environment):
    # one device, as at home; the compiler's cache is left alone
    environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"} | environment
    done = subprocess.run([str(part) for part in command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done


def size(path):
    with Image.open(path) as picture:
        return picture.size


def source_tree(folder):
    """What a wheel is built from, without what earlier builds left in the checkout."""
    tree = folder / "tree"
    shutil.copytree(ROOT / "multifocal_jax", tree / "multifocal_jax", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    return tree


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workdir of the demo config, smaller and shorter."""
    folder = tmp_path_factory.mktemp("demo")
    config = ["--config", ROOT / "configs" / "demo.py", "--workdir", folder / "run"]
    run(sys.executable, ROOT / "train.py", *config, *(f"--config.{one}" for one in SMALL), folder=folder)
    return folder / "run"


def test_training_leaves_events_that_tensorboard_can_read(trained):
    from tensorboardX.proto.event_pb2 import Event

    (file,) = trained.glob("events.out.tfevents.*")
    data, tags, position = file.read_bytes(), set(), 0
    while position < len(data):  # TFRecord: length, CRC of it, payload, CRC of it
        length = int.from_bytes(data[position : position + 8], "little")
        event = Event.FromString(data[position + 12 : position + 12 + length])
        tags |= {value.tag for value in event.summary.value}
        position += 12 + length + 4
    assert {"loss", "learning_rate", "images_per_second"} <= tags


def test_evaluation_writes_scores_and_pictures(trained):
    done = run(sys.executable, ROOT / "evaluate.py", "--workdir", trained, folder=trained)
    assert "chelsea" in done.stdout
    assert json.loads((trained / "evaluation" / "report.json").read_text())
    assert size(trained / "evaluation" / "images" / "chelsea.png") == (451, 300)
    run(sys.executable, "-m", "multifocal_jax.cli.demo", trained, trained / "sheet.png", folder=trained)
    assert size(trained / "sheet.png") == (3 * 451 + 2 * 8, 300 + 24)


def test_wheel_gives_a_working_derain(trained, tmp_path):
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    run(*pip, "wheel", "--no-deps", "--wheel-dir", wheels, source_tree(tmp_path), folder=tmp_path)
    (wheel,) = wheels.glob("*.whl")
    run(*pip, "install", "--no-deps", "--no-index", "--target", site, wheel, folder=tmp_path)
    assert (site / "multifocal_jax" / "evaluation" / "page.html").is_file()  # the reports' template
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    Image.fromarray(rng.integers(0, 256, (21, 35, 3), np.uint8)).save(tmp_path / "photos" / "odd.png")
    command = [site / "bin" / "derain", "photos", "-o", "out", "--weights", trained]
    run(*command, folder=tmp_path, PYTHONPATH=str(site))
    assert size(tmp_path / "out" / "odd.png") == (35, 21)


@pytest.mark.slow
def test_a_wheel_without_extras_starts_every_command(tmp_path):
    """Installs from the index that pip uses; a command that needs an extra names it."""
    folder = tmp_path / "work"
    shutil.copytree(ROOT / "configs", folder / "CONFIGS")
    for name in ("train.py", "evaluate.py", "convert_weights.py"):
        shutil.copy(ROOT / name, folder)
    rng = np.random.default_rng(0)
    for side in ("rain", "norain"):
        (folder / "pairs" / side).mkdir(parents=True)
        for name in "abcd":
            Image.fromarray(rng.integers(0, 255, (32, 40, 3), np.uint8)).save(folder / "pairs" / side / f"{name}.png")
    shutil.copy(folder / "pairs" / "rain" / "a.png", folder / "street.png")
    run(sys.executable, "-m", "venv", tmp_path / "venv", folder=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"

    def command(line, status=0):
        name, *words = line.split()
        program = [python.with_name(name)] if name in ("derain", "derain-export") else [python, name]
        return run(*program, *words, folder=folder, status=status, PYTHONPATH="", MULTIFOCAL_CACHE="off")

    pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    run(*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path / "wheels", source_tree(tmp_path), folder=tmp_path)
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    run(*pip, "install", "--constraint", ROOT / "constraints.txt", wheel, folder=tmp_path)

    command("derain street.png -o clean.png --weights demo")
    assert size(folder / "clean.png") == (40, 32)
    command("derain-export demo network.stablehlo --batch 1 --size 32x32")
    tiny = ["model.channels=4", "model.modules=0", "model.heads=1", "data.train.0.dataset=folder", "data.root=pairs"]
    tiny += ["data.crop_size=16", "data.held_out=1", "data.workers=1", "train.steps=1"]
    command(f"train.py --config CONFIGS/rain100l.py --workdir run {' '.join(f'--config.{one}' for one in tiny)}")
    command("train.py --workdir run --config.data.mode=stream --config.train.steps=2")
    command("evaluate.py --workdir run --config.eval.split=held_out")
    command("convert_weights.py run half.safetensors --dtype float16")
    command("-m multifocal_jax.data check pairs", status=1)  # noise on both sides
    for line in ("cost --repeats 0", "paper table1", "release --help", "cli.rain pairs/norain out"):
        command(f"-m multifocal_jax.{line}")
    for extra, _, line in NEEDING:
        said = command(line, status=2).stderr
        assert f"pip install '.[{extra}]'" in said
        assert "Traceback" not in said
    shutil.rmtree(tmp_path / "venv")  # more than a gigabyte, which pytest would keep
