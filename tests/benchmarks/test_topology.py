"""Steps compiled ahead: the table of this machine's device, and one line where there is no compiler."""

import subprocess
import sys

import pytest

from tests.launch import ROOT

pytestmark = pytest.mark.usefixtures("unoptimised")
SMALL = ("model.channels=8", "model.heads=1", "model.modules=1", "model.levels=1", "data.crop_size=64")


def run(*arguments):
    command = [sys.executable, "-m", "benchmarks.topology", "--config", "configs/demo.py", *arguments]
    command += [f"--config.{one}" for one in SMALL]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_a_step_of_this_machine():
    done = run("--topologies", "here", "--config.train.batch_size=2")
    assert done.returncode == 0, done.stderr
    header, _, row = done.stdout.splitlines()
    cells = dict(zip(header.split(" | "), row.split(" | "), strict=True))
    assert cells["chips"] == "1"
    assert cells["crops per chip"] == "2"
    assert float(cells["GFLOP"]) > 0
    assert cells["gradients summed"].endswith(" MB")


def test_what_cannot_be_compiled_for_is_one_line_before_anything_is_compiled():
    done = run("--topologies", "here", "v5e:nowhere")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "pip install" in line or "take a TPU slice such as v5e:2x4, or here" in line
