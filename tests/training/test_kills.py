"""A run that is killed again and again ends with the very bits of one that is not."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import with_train
from test_processes import ROOT, free_port, parameters, write_config

pytestmark = pytest.mark.slow
KILLS = 20


def test_killed_at_random_moments(tiny, tmp_path):
    config = with_train(tiny, steps=6000, log_every=20, checkpoint_every=20)
    environment = os.environ | {"XLA_FLAGS": ""}

    def command(name):
        file = write_config(config, tmp_path)
        return [sys.executable, ROOT / "train.py", "--quiet", "--config", file, "--workdir", tmp_path / name]

    subprocess.run(command("whole"), env=environment, check=True)
    chance, kills = random.Random(0), 0
    while True:
        with subprocess.Popen(command("killed"), env=environment) as process:
            try:
                # long enough to get going, short enough to be in the middle of steps and of writing checkpoints
                process.wait(timeout=chance.uniform(5, 15) if kills < KILLS else None)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                kills += 1
                continue
        assert process.returncode == 0
        break
    assert kills == KILLS, f"the run ended after {kills} kills; make it longer"
    for a, b in zip(parameters(tmp_path / "killed"), parameters(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_others_end_when_a_process_dies(tiny, tmp_path):
    file = write_config(with_train(tiny, steps=10**6, log_every=5), tmp_path)
    environment = os.environ | {"XLA_FLAGS": ""}
    port = free_port()
    command = [sys.executable, ROOT / "train.py", "--config", file, "--workdir", tmp_path / "run"]
    command += [f"--coordinator=127.0.0.1:{port}", "--process-count=2"]
    with (
        subprocess.Popen([*command, "--process-id=0"], env=environment, stderr=subprocess.PIPE, text=True) as first,
        subprocess.Popen([*command, "--process-id=1"], env=environment, stderr=subprocess.DEVNULL) as second,
    ):
        assert first.stderr is not None
        for line in first.stderr:
            if line.startswith("step 10/"):
                break
        second.send_signal(signal.SIGKILL)
        begin = time.monotonic()
        rest = first.stderr.read()
        assert first.wait(timeout=90) != 0
        assert time.monotonic() - begin < 60
    assert "process" in rest.lower() or "task" in rest.lower()
