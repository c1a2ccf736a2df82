"""Tables of the paper: the numbers quoted, the commands given, the reports filled in."""

import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from multifocal_jax.cli.main import run
from multifocal_jax.errors import UserError
from multifocal_jax.evaluation.metrics import Score
from multifocal_jax.evaluation.report import PictureScores, Report
from multifocal_jax.paper import _call, commands, run_table, table_text
from multifocal_jax.paper.tables import TABLES

ROOT = Path(__file__).parents[2]


ABLATIONS = set(runpy.run_path(str(ROOT / "configs" / "ablation.py"))["ROWS"])


def test_every_config_exists():
    for table in TABLES.values():
        for row in table.rows:
            assert len(row.quoted) == len(table.columns)
            assert len(row.configs) in (0, len(table.columns))
            for config in row.configs:
                path, _, name = config.partition(":")
                assert (ROOT / "configs" / f"{path}.py").is_file()
                assert not name or name in ABLATIONS


def test_tables_1_to_4_cover_every_ablation():
    configs = [config for number in range(1, 5) for row in TABLES[f"table{number}"].rows for config in row.configs]
    named = {config.partition(":")[2] for config in configs} - {""}
    assert ABLATIONS - named == {"heads_4", "modules_8", "channels_64"}  # these are the default
    assert configs.count("rain200h") == 4


def test_commands():
    overrides = ["--config.train.steps=3"]
    assert [" ".join(command) for command in commands("ablation:heads_8", Path("runs"), overrides)] == [
        "multifocal train --config ablation:heads_8 --workdir runs/heads_8 --config.train.steps=3",
        "multifocal evaluate --config ablation:heads_8 --workdir runs/heads_8 --config.train.steps=3",
    ]
    assert [" ".join(command) for command in commands("spa", Path("runs"))] == [
        "multifocal evaluate --config spa --workdir runs/spa --weights runs/rain200h"
    ]


def write_report(runs: Path, name: str, psnr: float, dataset="rain200l/test") -> None:
    scores = dict.fromkeys(("uint8", "double", "rgb"), Score(psnr, 0.5))
    record = {"trained": {"step": 1200}, "dataset": dataset}
    report = Report((PictureScores("a", 16, 16, scores, scores),), record=record)
    folder = runs / name / "evaluation"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(report.to_json())


def test_reports_are_filled_in(tmp_path, capsys):
    write_report(tmp_path, "rain200l", 33.333)
    assert run(["paper", "table6", "--runs", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "| Ours | 30.17 / 0.906 | not run | 40.38 / 0.987 | 33.33 / 0.500 | 35.00 / 0.940 | not run |" in text
    assert "| GMM | 14.50 / 0.418 |  | 28.56 / 0.870 |  | 25.81 / 0.796 |  |" in text
    assert "1 pictures of rain200l/test, trained for 1,200 steps" in text
    assert "--config rain200l" not in text.split("Not run")[1]
    write_report(tmp_path, "did", 30, dataset="rain100l/train")
    assert "| 35.00 / 0.940 | 30.00 / 0.500 on rain100l/train |" in table_text("table6", tmp_path)
    write_report(tmp_path, "spa", 31, dataset="spa/test")
    assert "| Ours | 35.25 / 0.955 | 31.00 / 0.500 |" in table_text("table5", tmp_path)


def test_running(tmp_path):
    write_report(tmp_path, "heads_1", 30)
    called = []

    def call(command):
        called.append(" ".join(command))
        return 2 if "heads_2" in called[-1] else 0

    assert run_table("table2", tmp_path, ["--config.train.steps=1"], call=call) == 1
    pattern = r"multifocal (\w+) .*--workdir \S*/(\w+) --config.train.steps=1"
    assert [
        re.search(pattern, line).groups() for line in called
    ] == [  # heads_1 is there already; heads_2 cannot be trained
        ("train", "heads_2"),
        *((verb, name) for name in ("rain200h", "heads_8", "heads_16") for verb in ("train", "evaluate")),
    ]


@pytest.mark.parametrize("status", [130, 143])
def test_a_command_that_was_told_to_end_ends_the_table(tmp_path, status):
    called = []
    assert run_table("table2", tmp_path, call=lambda command: called.append(command) or status) == status
    assert len(called) == 1


@pytest.mark.parametrize("end", ["exit 130", "exit 0"])
@pytest.mark.parametrize(("name", "send", "status"), [("INT", os.killpg, 130), ("TERM", os.kill, 143)])
def test_a_command_has_the_time_to_save(tmp_path, end, name, send, status):
    """Ctrl-C reaches both, as from a terminal, SIGTERM the parent. The command is a shell that saves for a second."""
    command = tmp_path / "command"
    command.write_text(
        f"#!/bin/sh\ntrap 'sleep 1; echo saved; {end}' {name}\necho begun\nwhile :; do sleep 0.1; done\n"
    )
    command.chmod(0o755)
    code = "import sys; from multifocal_jax.paper import _call; sys.executable = sys.argv[1]; print(_call(['', '']))"
    program = [sys.executable, "-c", code, command]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True) as process:
        assert process.stdout.readline() == "begun\n"
        send(process.pid, signal.Signals[f"SIG{name}"])
        assert process.stdout.read() == f"saved\n{status}\n"


def test_the_status_of_a_command_that_a_signal_ends(tmp_path, monkeypatch):
    (tmp_path / "command").write_text("#!/bin/sh\nkill -9 $$\n")
    (tmp_path / "command").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "command"))
    assert _call(["multifocal", "train"]) == 137


def test_no_time_left(tmp_path):
    called = []
    assert run_table("table2", tmp_path, minutes=1e-9, call=lambda command: called.append(command) or 0) == 0
    assert called == []


def test_pictures_are_not_replaced_by_what_is_drawn_of_them(tmp_path):
    (tmp_path / "a.png").write_bytes(b"precious")
    for arguments in (["detection", str(tmp_path), "-o", str(tmp_path)], ["figure1", f"{tmp_path}/a.png"]):
        output = [] if "-o" in arguments else ["-o", f"{tmp_path}/./a.png"]
        with pytest.raises(UserError, match=r"a\.png would be replaced; choose another --output"):
            run(["paper", *arguments, *output])
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"drawn before")
    for arguments in (["figure1", "-o", f"{tmp_path}/out/a.png"], ["detection", "-o", f"{tmp_path}/out"]):
        with pytest.raises(UserError, match=r"out/a\.png exists; choose another --output, or add --overwrite"):
            run(["paper", *arguments, f"{tmp_path}/a.png"])


@pytest.mark.parametrize(
    "arguments", [["table7"], ["table1", "--nonsense"], ["detection", "a.png", "-o", "x", "--config.a=1"]]
)
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(["paper", *arguments])
    assert "error" in capsys.readouterr().err


def test_text_is_markdown():
    for name in TABLES:
        lines = [line for line in table_text(name, Path("nowhere")).splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1
