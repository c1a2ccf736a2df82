import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from multifocal_jax.config import ExperimentConfig
from multifocal_jax.evaluation.run import run
from multifocal_jax.processes import ProcessesError
from multifocal_jax.training.loop import train

ROOT = Path(__file__).parents[2]


def test_a_port_in_use_is_said_in_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        place = f"localhost:{taken.getsockname()[1]}"
        command = [sys.executable, str(ROOT / "train.py"), "--config", str(ROOT / "configs" / "demo.py")]
        command += ["--workdir", str(tmp_path), "--coordinator", place, "--process-count", "2", "--process-id", "0"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 2
    assert f"error: process 0 cannot listen at {place}; is the port in use? Take another one" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "start",
    [lambda folder: train(ExperimentConfig(), folder), lambda folder: run(ExperimentConfig(), ["demo"], folder)],
    ids=["train", "evaluate"],
)
def test_processes_that_were_connected_by_other_means_are_refused(start, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ProcessesError, match=r"JAX runs 2 processes that have not joined here; pass --distributed"):
        start(tmp_path)
    assert not list(tmp_path.iterdir())
