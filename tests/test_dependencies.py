"""What the package imports is declared, and a command whose extra is not installed names it."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from multifocal_jax.cli.main import run
from multifocal_jax.errors import UserError
from tests.helpers import NEEDING

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
OF_VIDEOS = {"video", "video_frames", "video_reading", "tracks"}  # modules that, as interop, are imported when needed
EXTRAS = {"torch", "onnx", "demo", "metrics", "detection", "gcs", "video", "heif", "web"}


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
    for path in ROOT.glob("multifocal_jax/**/*.py"):
        for name, at_once in imports(path):
            package = PACKAGES.get(name, name).lower()
            found.add(package)
            of_extra = {extra for extra, packages in extras.items() if package in packages}
            assert package in core or of_extra, f"{path} imports {name}, which pyproject.toml does not declare"
            later = not at_once or "interop" in path.parts or path.stem in OF_VIDEOS
            assert package in core or later, f"{path} imports {name}, of an extra, when it is imported itself"
    assert {"jax", "pillow", "scipy", "absl_py", "onnx", "opencv_python_headless"} <= found


@pytest.mark.parametrize(("extra", "module", "command"), NEEDING)
def test_commands_name_the_extra_that_they_lack(tmp_path, monkeypatch, extra, module, command):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (16, 16)).save("street.png")
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(UserError) as refused:
        run(command.split())
    assert f"pip install 'multifocal-jax[{extra}]'" in str(refused.value)
    assert "\n" not in str(refused.value)
