"""As users do it: photographs in, training, scores, a de-rained picture; and the package from its wheel."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile

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


PIP = ["-m", "pip", "--disable-pip-version-check", "--quiet"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The package's, built from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, *PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT, folder=folder)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def multifocal(wheel, tmp_path_factory):
    """Runs a command line of the installed wheel; what it depends on is that of this environment."""
    site = tmp_path_factory.mktemp("site")
    run(sys.executable, *PIP, "install", "--no-deps", "--no-index", "--target", site, wheel, folder=site)

    def command(line, folder, status=0):
        program, *words = shlex.split(line, comments=True)
        return run(site / "bin" / program, *words, folder=folder, status=status, PYTHONPATH=str(site))

    return command


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


def test_the_wheel_holds_the_package_and_the_configs(wheel):
    files = subprocess.run(["git", "ls-files", "multifocal_jax", "configs"], cwd=ROOT, capture_output=True, text=True)
    expected = {re.sub("^configs/", "multifocal_jax/configs/", name) for name in files.stdout.split()}
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if ".dist-info/" not in name} == expected


def test_the_source_distribution_holds_the_project(tmp_path):
    run(sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", tmp_path, folder=ROOT)
    (file,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert {"PKG-INFO", *tracked} <= found
    assert not any(name.startswith((".venv", ".cache", "site/", "runs/", "out/")) for name in found)


def test_the_wheel_gives_a_working_derain(multifocal, trained, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    Image.fromarray(rng.integers(0, 256, (21, 35, 3), np.uint8)).save(tmp_path / "photos" / "odd.png")
    multifocal(f"derain photos -o out --weights {trained}", tmp_path)
    assert size(tmp_path / "out" / "odd.png") == (35, 21)


def test_a_config_and_a_loss_of_ones_own_with_the_wheel_in_an_empty_folder(multifocal, tmp_path):
    """The files and commands of docs/training.md; a shorter run of a smaller network."""
    page = (ROOT / "docs" / "training.md").read_text()
    page = page[page.index("## A config of your own") : page.index("## Options")]
    for name, text in re.findall(r"^`(\w+\.py)`:\n\n```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(text)
    lines = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    own, listed, printed, edges = lines
    assert "rain200h_pod" in multifocal(listed, tmp_path).stdout
    assert "--config.train.seed=0  " in multifocal(printed, tmp_path).stdout
    assert own == "multifocal train --config mine.py"
    (tmp_path / "optax.py").write_text("1 / 0")  # of the user's; takes no library's place
    done = multifocal(f"{edges} {shlex.join(f'--config.{field}' for field in SMALL)} --config.train.steps=1", tmp_path)
    config = json.loads((tmp_path / "runs" / "edges" / "config.json").read_text())
    assert config["train"]["learning_rate"] == 0.001
    assert config["train"]["loss"] == "losses:edges"
    (following,) = re.findall(r"multifocal evaluate .*", done.stdout)
    assert "chelsea" in multifocal(f"{following} --config.eval.limit=1", tmp_path).stdout
    wrong = multifocal(f"{edges}x", tmp_path, status=2).stderr
    assert wrong == (
        "error: TrainConfig.loss is 'losses:edgesx', which cannot be imported: "
        "module 'losses' has no attribute 'edgesx'\n"
    )


@pytest.mark.slow
def test_a_wheel_without_extras_starts_every_command(wheel, tmp_path):
    """Installs from the index that pip uses; a command that needs an extra names it."""
    folder = tmp_path / "work"
    rng = np.random.default_rng(0)
    for side in ("rain", "norain"):
        (folder / "pairs" / side).mkdir(parents=True)
        for name in "abcd":
            Image.fromarray(rng.integers(0, 255, (32, 40, 3), np.uint8)).save(folder / "pairs" / side / f"{name}.png")
    shutil.copy(folder / "pairs" / "rain" / "a.png", folder / "street.png")
    run(sys.executable, "-m", "venv", tmp_path / "venv", folder=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"

    def command(line, status=0):
        program = python.with_name("multifocal")
        return run(program, *line.split(), folder=folder, status=status, PYTHONPATH="", MULTIFOCAL_CACHE="off")

    run(python, *PIP, "install", "--constraint", ROOT / "constraints.txt", wheel, folder=tmp_path)

    command("derain street.png -o clean.png --weights demo")
    assert size(folder / "clean.png") == (40, 32)
    command("export demo network.stablehlo --batch 1 --size 32x32")
    tiny = ["model.channels=4", "model.modules=0", "model.heads=1", "data.train.0.dataset=folder", "data.root=pairs"]
    tiny += ["data.crop_size=16", "data.held_out=1", "data.workers=1", "train.steps=1"]
    command(f"train --config rain100l --workdir run {' '.join(f'--config.{one}' for one in tiny)}")
    command("train --workdir run --config.data.mode=stream --config.train.steps=2")
    command("evaluate --workdir run --config.eval.split=held_out")
    command("convert run half.safetensors --dtype float16")
    command("data check pairs", status=1)  # noise on both sides
    for line in ("cost --repeats 0", "paper table1", "release --help", "rain pairs/norain out"):
        command(line)
    for extra, _, line in NEEDING:
        said = command(line, status=2).stderr
        assert f"pip install 'multifocal-jax[{extra}]'" in said
        assert "Traceback" not in said
    shutil.rmtree(tmp_path / "venv")  # more than a gigabyte, which pytest would keep
