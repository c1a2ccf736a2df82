"""What the package imports is declared, and a command whose extra is not installed names it."""

import ast
import functools
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from multifocal_jax.cli.export import export
from multifocal_jax.cli.paper import paper
from multifocal_jax.errors import UserError

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Where the name of a package and that of its module differ by more than "-" and "_".
PACKAGES = {
    "PIL": "pillow",
    "absl": "absl_py",
    "cv2": "opencv_python_headless",
    "orbax": "orbax_checkpoint",
    "skimage": "scikit_image",
}
EXTRAS = {"torch", "onnx", "demo", "metrics", "detection", "gcs"}
# An extra, a module of it, and a command that needs it.
NEEDING = [
    ("onnx", "onnx", "derain-export demo network.onnx"),
    ("onnx", "onnxruntime", "derain-export demo network.onnx"),
    ("torch", "torch", "convert_weights.py demo weights.pth"),
    ("torch", "torch", "convert_weights.py demo --verify"),
    ("metrics", "torch", "evaluate.py --config CONFIGS/rain100l.py --weights demo --metrics lpips"),
    ("metrics", "torchmetrics", "evaluate.py --config CONFIGS/rain100l.py --weights demo --metrics lpips"),
    ("detection", "cv2", "-m multifocal_jax.paper detection pairs/rain -o out"),
    ("demo", "skimage", "train.py --config CONFIGS/demo.py"),
    ("gcs", "gcsfs", "evaluate.py --workdir gs://bucket/run"),
]


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w-]", line)[0].lower().replace("-", "_") for line in requirements}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Top-level names of the foreign modules that a file imports, and whether it does so when it is imported."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        modules = [item.name for item in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            modules = [node.module or ""]
        for name in {module.split(".")[0] for module in modules} - sys.stdlib_module_names - {"multifocal_jax"}:
            yield name, node in tree.body


def test_what_is_imported_is_declared():
    core = names(PROJECT["dependencies"])
    extras = {name: names(PROJECT["optional-dependencies"][name]) for name in EXTRAS}
    found = set()
    for path in [*ROOT.glob("multifocal_jax/**/*.py"), *(ROOT / f"{name}.py" for name in ("train", "evaluate"))]:
        for name, at_once in imports(path):
            package = PACKAGES.get(name, name).lower()
            found.add(package)
            of_extra = {extra for extra, packages in extras.items() if package in packages}
            assert package in core or of_extra, f"{path} imports {name}, which pyproject.toml does not declare"
            later = not at_once or "interop" in path.parts  # whose modules are imported when they are needed
            assert package in core or later, f"{path} imports {name}, of an extra, when it is imported itself"
    assert {"jax", "pillow", "scipy", "absl_py", "onnx", "opencv_python_headless"} <= found


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with four pairs of pictures."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for side in ("rain", "norain"):
        Path("pairs", side).mkdir(parents=True)
        for name in "abcd":
            Image.fromarray(rng.integers(0, 255, (32, 40, 3), np.uint8)).save(f"pairs/{side}/{name}.png")
    return tmp_path


@pytest.mark.parametrize(("extra", "module", "command"), NEEDING)
def test_commands_name_the_extra_that_they_lack(here, monkeypatch, extra, module, command):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    program, *words = command.replace("CONFIGS", str(ROOT / "configs")).split()
    monkeypatch.setattr(sys, "argv", [program, *words])
    if program == "derain-export":
        main = export
    elif program == "-m":
        main = functools.partial(paper, words[1:])
    else:
        main = runpy.run_path(str(ROOT / program))["main"]
    with pytest.raises(UserError) as refused:
        main()
    assert f"pip install '.[{extra}]'" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_the_wheel_without_extras_starts_every_command(here):
    """Builds the wheel and installs it from the index that pip uses, in a new environment."""

    def run(*words: object, status: int = 0) -> str:
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "XLA_FLAGS")}
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, env=environment)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    source = here / "source"
    shutil.copytree(ROOT / "multifocal_jax", source / "multifocal_jax")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "venv", "new")
    python = here / "new" / "bin" / "python"
    run(python, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", "wheels", source)
    (wheel,) = Path("wheels").iterdir()
    run(python, "-m", "pip", "install", "--constraint", ROOT / "constraints.txt", wheel)
    shutil.copytree(ROOT / "configs", "CONFIGS")
    for name in ("train.py", "evaluate.py", "convert_weights.py"):
        shutil.copy(ROOT / name, ".")

    run(python.with_name("derain"), "pairs/rain/a.png", "-o", "clean.png", "--weights", "demo")
    run(python.with_name("derain-export"), "demo", "network.stablehlo", "--batch", "1", "--size", "32x32")
    tiny = ["model.channels=4", "model.modules=0", "model.heads=1", "data.train.0.dataset=folder", "data.root=pairs"]
    tiny += ["data.crop_size=16", "data.held_out=1", "train.steps=1", "train.warmup_steps=0", "data.workers=1"]
    run(python, "train.py", "--config", "CONFIGS/rain100l.py", "--workdir=run", *(f"--config.{one}" for one in tiny))
    stream = ["--config.data.mode=stream", "--config.train.steps=2"]
    run(python, "train.py", "--workdir", "run", *stream)
    run(python, "evaluate.py", "--workdir", "run", "--config.eval.split=held_out")
    run(python, "convert_weights.py", "run", "half.safetensors", "--dtype", "float16")
    for module in (
        "data check pairs",
        "cost --repeats 0",
        "paper table1",
        "release --help",
        "cli.rain pairs/norain out",
    ):
        name, *words = module.split()
        run(python, "-m", f"multifocal_jax.{name}", *words, status=1 if "check" in words else 0)  # pictures of noise
    for extra, _, command in NEEDING:
        program, *words = command.split()
        words = [program, *words] if program != "derain-export" else ["-m", "multifocal_jax.cli.export", *words]
        said = run(python, *words, status=2)
        assert f"pip install '.[{extra}]'" in said
        assert "Traceback" not in said
    shutil.rmtree("new")  # more than a gigabyte, which pytest would keep
