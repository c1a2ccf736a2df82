"""What the documentation shows is true: commands are understood, Python refers to what exists, links lead somewhere."""

import ast
import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from PIL import Image

from multifocal_jax.cli.main import understand
from multifocal_jax.config_files import apply_overrides, load_config

ROOT = Path(__file__).parents[1]
TOUR = ROOT / "docs" / "tour.ipynb"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = {"train.py": "train", "evaluate.py": "evaluate", "convert_weights.py": "convert", "derain": "derain"}
SCRIPTS = {"multifocal": "", "derain": "derain"}  # installed programs, as arguments of this checkout's
# Names that the text around a block introduces, and files that it needs.
PICTURE = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
BATCH = np.float32(PICTURE[None] / 255)
GIVEN = {
    "README.md": {"rainy": PICTURE, "images": jnp.asarray(BATCH)},
    "derain.md": {"image": PICTURE},
    "rain.md": {"clean": BATCH[0]},
}
NEEDING = ("out/", "import torch", 'main("web")')  # of blocks that only the walk-through below and test_web.py run


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def cells_of(notebook: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == kind]


def text_of(page: Path) -> str:
    """A page, or a notebook without its code, in Markdown."""
    if page.suffix == ".md":
        return page.read_text()
    return "\n\n".join("".join(cell["source"]) for cell in cells_of(page, "markdown"))


def code_of(cell: dict) -> str:
    """A cell's Python, without the commands of IPython."""
    return re.sub(r"^%.*\n", "", "".join(cell["source"]), flags=re.MULTILINE)


def blocks_of(page: Path, languages: str = r"\w*") -> list[str]:
    return re.findall(rf"^```{languages}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def commands_of(page: Path) -> list[tuple[str, list[str]]]:
    """Program and words of every command of ours in a page's code blocks; those with gaps are left out."""
    lines = "\n".join(blocks_of(page)).replace("\\\n", " ").splitlines()
    ours = re.compile(r"(?:.*?\bpython |.*\| |srun )?(\w+\.py|derain|multifocal) ([^|>…[]*)(?:[|>].*)?")
    found = [match.groups() for line in lines if (match := ours.fullmatch(line.partition(" # ")[0]))]
    known = [(program, shlex.split(words)) for program, words in found if program in {*PROGRAMS, "multifocal"}]
    return [(program, words) for program, words in known if not words[-1].startswith("--list-")]


def python_of(page: Path) -> list[str]:
    """The Python of a page's code blocks and shell scripts, or of a whole notebook."""
    if page == TOUR:
        return ["\n".join(map(code_of, cells_of(page, "code")))]
    scripts = re.findall(r"^python - <<'PY'\n(.*?)^PY$", page.read_text(), re.MULTILINE | re.DOTALL)
    return blocks_of(page, "python") + scripts


COMMANDS = [(page, *command) for page in PAGES for command in commands_of(page)]
PYTHON = [
    (page, code)
    for page in [*PAGES, TOUR]
    for code in python_of(page)
    if "import torch" not in code or not os.environ.get("MULTIFOCAL_NO_TORCH")
]


def test_pages_hold_commands():
    assert len(COMMANDS) > 50
    names = {"README.md", "index.md", "training.md", "interop.md", "general-small.md"}
    assert names <= {page.name for page, *_ in COMMANDS}
    assert {program for _, program, _ in COMMANDS} == {*PROGRAMS, "multifocal"}
    assert len(PYTHON) > 10


@pytest.mark.parametrize(("page", "program", "words"), COMMANDS, ids=lambda value: getattr(value, "stem", "command"))
def test_commands_are_understood(page, program, words, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    arguments = understand(words, PROGRAMS.get(program, ""))
    if name := getattr(arguments, "config", None):
        shown = dict(re.findall(r"^`(\w+\.py)`:\n\n```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL))
        if name in shown:
            (tmp_path / name).write_text(shown[name])
            name = str(tmp_path / name)
        config = load_config(name)
        assert (apply_overrides(config, arguments.overrides) == config) == (not arguments.overrides)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_shell_blocks_are_shell(page):
    for block in blocks_of(page, "sh"):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert done.stderr == "" or "[" in block, block  # synopses have options in brackets


@pytest.mark.parametrize("code", [code for _, code in PYTHON if any(map(code.count, NEEDING))])
def test_python_blocks_import_what_exists(code, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests" / "interop")  # as interop.md does
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            exec(ast.unparse(node), {})


@pytest.mark.usefixtures("unoptimised")
@pytest.mark.parametrize(("page", "code"), [(page, code) for page, code in PYTHON if not any(map(code.count, NEEDING))])
def test_python_blocks_run(page, code, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PICTURE).save("photo.jpg")
    exec(code.replace("range(30)", "range(1)"), dict(GIVEN.get(page.name, {})))  # which the page repeats to time them


@pytest.mark.slow
def test_the_walk_through_runs_in_order(tmp_path):
    """From docs/interop.md to docs/export.md, as one user types it."""
    for name in ("convert_weights.py", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    docs = ROOT / "docs"
    python = [f"python - <<'PY'\n{code}PY\n" for code in blocks_of(docs / "export.md", "python")]
    own = "".join(f'{one}() {{ python -m multifocal_jax.cli.main {words} "$@"; }}\n' for one, words in SCRIPTS.items())
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    said = {}
    for block in blocks_of(docs / "interop.md", "sh") + blocks_of(docs / "export.md", "sh") + python:
        done = subprocess.run(
            ["bash", "-e"], input=own + block, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == int("--trace" in block), f"{block}\n{done.stderr}"  # the page's faulty network
        said[block] = done.stdout
    shown = [text[text.index("True\n") :] for text in said.values() if "True\n" in text]
    assert shown == ["True\ntorch.Size([1, 3, 321, 481])\n", "True\n"]
    assert any("the first divergence is in what feeds module_1.channel.level_0.key" in text for text in said.values())
    for name in ("clean.png", "clean_stablehlo.png", "clean_onnx.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.size == (600, 400), name  # of scikit-image's coffee


@pytest.mark.slow
def test_the_tour_runs(monkeypatch, tmp_path):
    """All cells in order print what is stored in the notebook, but for the numbers."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    space = {}
    for cell in cells_of(TOUR, "code"):
        if os.environ.get("MULTIFOCAL_NO_TORCH") and "torch" in cell["metadata"].get("tags", ()):
            continue
        with contextlib.redirect_stdout(io.StringIO()) as said:
            exec(code_of(cell), space)
        shown = "".join("".join(output.get("text", ())) for output in cell["outputs"])
        assert _without_numbers(said.getvalue()) == _without_numbers(shown), code_of(cell)
    space["plt"].close("all")
    for written_out, computed in (
        (np.stack(space["M"], axis=1), space["block"]["maps"]),
        (space["F_in"] + space["MV"], space["block"]["out"]),
        (space["A"], space["seen"]["module_0.channel.level_0.maps"]),
    ):
        np.testing.assert_allclose(written_out, computed, atol=1e-5)
    scores = space["scores"]
    assert scores["general-small"] > scores["rainy"] + 10
    assert scores["after a minute"] > scores["rainy"] + 5
    if "comparison" in space:
        assert space["comparison"].ok
        assert space["difference"] < 1e-5


def _without_numbers(text: str) -> str:
    return re.sub(r" *[\d.,]*\d(e-\d+)?", " 0", text)


def test_the_tour_shows_its_figures_and_is_small():
    outputs = [output for cell in cells_of(TOUR, "code") for output in cell["outputs"]]
    assert sum("image/jpeg" in output.get("data", ()) for output in outputs) >= 9
    assert {output["output_type"] for output in outputs} == {"stream", "display_data"}  # neither warnings nor errors
    assert TOUR.stat().st_size < 500_000


def test_python_blocks_use_what_they_define():
    """Undefined names and unused imports, as ruff sees them."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "E9,F", "--output-format", "json", "-"]
    for page, code in PYTHON:
        given = ["--config", f"builtins = {sorted(GIVEN.get(page.name, ()))}"]
        done = subprocess.run([*command, *given], input=code, capture_output=True, text=True)
        assert json.loads(done.stdout) == [], f"{page}: {code}"


def test_yaml_blocks_are_yaml():
    (file,) = blocks_of(ROOT / "docs" / "devices" / "kubernetes.md", "yaml")
    service, job = yaml.safe_load_all(file)
    assert service["spec"]["selector"]["job-name"] == job["metadata"]["name"]
    assert job["spec"]["backoffLimit"] == 1000


def anchors_of(page: Path) -> set[str]:
    """The names that GitHub gives a page's headings."""
    text = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, TOUR, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=name_of)
def test_links_lead_to_files_and_headings(page):
    text = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        place, _, anchor = target.partition("#")
        linked = (page.parent / place).resolve() if place else page
        assert linked.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors_of(linked), f"{page.name}: {target}"
        if "docs" in page.parts:  # the site holds nothing else
            assert linked.is_relative_to(ROOT / "docs"), f"{page.name}: {target}"
