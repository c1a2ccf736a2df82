"""As users do it: photographs in, training, scores, a de-rained picture; and the package from its wheel."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
SMALL = [
    "--config.model.channels=8",
    "--config.model.modules=1",
    "--config.data.crop_size=32",
    "--config.train.batch_size=2",
]


def run(*command, folder, **environment):
    # one device, as at home; the compiler's cache is left alone
    environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"} | environment
    done = subprocess.run([str(part) for part in command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
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
    run(sys.executable, ROOT / "train.py", *config, *SMALL, "--config.train.steps=6", folder=folder)
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
    config = ["--config", ROOT / "configs" / "demo.py", "--workdir", trained]
    done = run(sys.executable, ROOT / "evaluate.py", *config, *SMALL, folder=trained)
    assert "chelsea" in done.stdout
    report = json.loads((trained / "evaluation" / "report.json").read_text())
    assert report
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
def test_wheel_in_an_empty_environment(trained, tmp_path):
    run(sys.executable, "-m", "venv", tmp_path / "venv", folder=tmp_path)
    pip = [tmp_path / "venv" / "bin" / "pip", "--disable-pip-version-check", "--quiet"]
    run(*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path / "wheels", source_tree(tmp_path), folder=tmp_path)
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    run(*pip, "install", "--constraint", ROOT / "constraints.txt", wheel, folder=tmp_path)
    Image.new("RGB", (30, 20), "grey").save(tmp_path / "photo.png")
    derain = tmp_path / "venv" / "bin" / "derain"
    run(derain, "photo.png", "-o", "out.png", "--weights", trained, folder=tmp_path)
    assert size(tmp_path / "out.png") == (30, 20)
