"""Two processes go on with an evaluation that one began, and write what one alone writes."""

import json
import time
from pathlib import Path

import pytest
from launch import finish, start
from PIL import Image
from test_run import CONFIG, door
from tiny import write_experiment

SIZES = [(24, 32), (32, 24), (24, 32), (24, 32), (40, 40), (16, 48), (24, 32)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with a config, weights as training leaves them, and seven pairs of several sizes."""
    monkeypatch.chdir(tmp_path)
    write_experiment(CONFIG, {str(number): size for number, size in enumerate(SIZES)})
    return tmp_path


def test_two_processes_evaluate_as_one(here):
    assert door("--quiet", "--output", "one") == 0
    assert door("--quiet", "--output", "two", "--config.eval.limit=3") == 0
    kept = {name: Path(f"two/images/{name}.png").stat().st_mtime_ns for name in "01"}
    Path("two/images/2.png").unlink()  # its score is there, but not its picture
    arguments = ["--config", "config.py", "--quiet", "--output", "two", "--resume"]
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
    assert "error: a process died" in errors or "lost another one" in errors
    scored = [json.loads(line) for line in Path("two/scores.jsonl").read_text().splitlines()[1:]]
    assert {"0", "2", "4", "6"} <= {row["name"] for row in scored}
