"""Imports run one way, as CONTRIBUTING.md says."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "multifocal_jax"


def layers():
    """Parts of the package by their layer, as the list in CONTRIBUTING.md has them, from the lowest up."""
    rows = re.findall(r"^(\d+)\. (`.*)$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    return {name: int(number) for number, names in rows for name in re.findall(r"`(\w+)`", names)}


def imports():
    """(file, part of the package that it lies in, part that it imports); entry points `__main__` may import any."""
    for file in PACKAGE.rglob("*.py"):
        own = file.relative_to(PACKAGE).with_suffix("").parts[0]
        if own == "__init__" or file.name == "__main__.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{name}" for name in names]
            ours = (name.split(".") for name in names if name.startswith(f"{PACKAGE.name}."))
            yield from ((file, own, parts[1]) for parts in ours)


def test_imports_run_from_higher_layers_to_lower_ones():
    layer = layers()
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert parts - {"__init__"} == set(layer), "CONTRIBUTING.md lists other parts of the package"
    wrong = [
        f"{file.relative_to(ROOT)} imports {other}"
        for file, own, other in imports()
        if own != other and not layer[own] > layer[other]
    ]
    assert wrong == []
