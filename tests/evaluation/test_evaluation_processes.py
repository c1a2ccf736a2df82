"""Two processes go on with an evaluation that one began, and write what one alone writes."""

import json
import time
from pathlib import Path

import pytest
from PIL import Image

from multifocal_jax.evaluation.journal import Journal
from multifocal_jax.evaluation.report import PictureScores
from tests.evaluation.helpers import CONFIG, evaluate_py, write_experiment
from tests.launch import finish, start

SIZES = [(24, 32), (32, 24), (24, 32), (24, 32), (40, 40), (16, 48), (24, 32)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with a config, weights as training leaves them, and seven pairs of several sizes."""
    monkeypatch.chdir(tmp_path)
    write_experiment(CONFIG, {str(number): size for number, size in enumerate(SIZES)})
    return tmp_path


def test_two_processes_evaluate_as_one(here):
    for side in ("rain", "norain"):
        Path(f"pairs/{side}/00.png").write_bytes(b"broken")  # is left out by both processes
    skip = "--config.data.on_broken=skip"
    assert evaluate_py("--quiet", "--output", "one", skip) == 0
    assert evaluate_py("--quiet", "--output", "two", "--config.eval.limit=4", skip) == 0
    kept = {name: Path(f"two/images/{name}.png").stat().st_mtime_ns for name in "01"}
    Path("two/images/2.png").unlink()  # its score is there, but not its picture
    arguments = ["--config", "config.py", "--quiet", "--output", "two", "--resume", skip]
    finish(start("evaluate.py", arguments, processes=2, cwd=here))
    for name in ("report.json", "report.csv", "report.md", "report.html"):
        assert Path("two", name).read_text() == Path("one", name).read_text(), name
    pictures = sorted(path.name for path in Path("one/images").iterdir())
    assert pictures == [f"{number}.png" for number in range(len(SIZES))]
    for name in pictures:
        assert Path("two/images", name).read_bytes() == Path("one/images", name).read_bytes()
    assert kept == {name: Path(f"two/images/{name}.png").stat().st_mtime_ns for name in kept}
    # header, three of one process, then the five that were missing, in the order in which they were scored
    rows = [line for line in Path("two/scores.jsonl").read_text().splitlines() if line]
    assert len(rows) == 1 + 3 + 5
    assert not list(Path("two").glob("scores.*-*.jsonl"))  # of process 1, which process 0 took over


def test_scores_of_a_process_that_was_interrupted_are_taken_over_at_a_resume(tmp_path):
    def picture(name):
        return PictureScores(name, 8, 8, {}, {})

    def write(*names, **options):
        with Journal(tmp_path, {"of": "this"}, **options) as journal:
            for name in names:
                journal.add(picture(name))
        return sorted(journal.done)

    assert write("a", resume=False) == []
    assert write("b", resume=False, process=1) == []
    assert write("c", resume=False, process=2) == []
    assert write("d", resume=True) == ["a", "b", "c"]
    assert [path.name for path in tmp_path.iterdir()] == ["scores.jsonl"]
    assert write(resume=True) == ["a", "b", "c", "d"]
    write("e", resume=False, process=1)
    assert write(resume=False) == []
    assert [path.name for path in tmp_path.iterdir()] == ["scores.jsonl"]
    assert write(resume=True) == []


@pytest.mark.slow
def test_the_other_process_ends_too_when_one_finds_a_broken_picture(here):
    Image.open("pairs/rain/3.png").save("pairs/rain/3.jpg")  # of the share of process 1; its header is whole
    Path("pairs/rain/3.png").unlink()
    Path("pairs/rain/3.jpg").write_bytes(Path("pairs/rain/3.jpg").read_bytes()[:-200])
    both = start("evaluate.py", ["--config", "config.py", "--quiet", "--output", "two"], processes=2, cwd=here)
    _, errors = both[1].communicate(timeout=300)
    assert both[1].returncode == 2
    (line,) = (line for line in errors.splitlines() if line.startswith("error:"))
    assert line.startswith("error: picture pairs/rain/3.jpg cannot be read: image file is truncated (")
    begin = time.monotonic()
    _, errors = both[0].communicate(timeout=300)
    assert time.monotonic() - begin < 60
    assert both[0].returncode not in (0, None)
    assert "another task died" in errors or "lost another process" in errors  # as JAX says it, or this project
    scored = [json.loads(line) for line in Path("two/scores.jsonl").read_text().splitlines()[1:]]
    assert {"0", "2", "4", "6"} <= {row["name"] for row in scored}
