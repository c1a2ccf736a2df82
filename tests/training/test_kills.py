"""A run that is killed again and again ends with the very bits of one that is not."""

import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.launch import ROOT, finish, read_until, start
from tests.training.helpers import assert_equal_weights, with_train, write_config

pytestmark = pytest.mark.slow
KILLS = 20


def newest_checkpoint(workdir):
    """Its step, 0 without one."""
    return max((int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdigit()), default=0)


def test_killed_at_random_moments(attentive, tmp_path):
    config = with_train(attentive, steps=6000, log_every=20, checkpoint_every=20)
    # the compiled step is kept, as at home: killed runs, too, write and read it
    cache = {"MULTIFOCAL_CACHE": str(tmp_path / "cache"), "JAX_COMPILATION_CACHE_DIR": ""}
    environment = os.environ | {"XLA_FLAGS": ""} | cache

    def command(name):
        file = write_config(config, tmp_path)
        return [sys.executable, ROOT / "train.py", "--quiet", "--config", file, "--workdir", tmp_path / name]

    subprocess.run(command("whole"), env=environment, check=True)
    chance = random.Random(0)
    for _ in range(KILLS):
        with subprocess.Popen(command("killed"), env=environment) as process:
            # by progress, so that on no machine the run ends before the last kill; some fall before the first step
            target = newest_checkpoint(tmp_path / "killed") + 20 * chance.randrange(10)
            while newest_checkpoint(tmp_path / "killed") < target:
                assert process.poll() is None
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.3))  # in the middle of steps and of writing checkpoints
            assert process.poll() is None
            process.send_signal(signal.SIGKILL)
    subprocess.run(command("killed"), env=environment, check=True)
    assert_equal_weights(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize("killed", [0, 1])
def test_the_others_end_when_a_process_dies_and_a_restart_goes_on(attentive, tmp_path, killed):
    config = with_train(attentive, steps=10**6, log_every=5, checkpoint_every=10)
    command = ["--config", write_config(config, tmp_path), "--workdir", tmp_path / "run"]
    both = start("train.py", command, processes=2)
    read_until(both[0], "step 40/")
    both[killed].send_signal(signal.SIGKILL)
    begin = time.monotonic()
    _, errors = both[1 - killed].communicate(timeout=90)
    assert time.monotonic() - begin < 60
    both[killed].communicate()
    lines = [line for line in errors.splitlines() if line.startswith("error:")]
    step = newest_checkpoint(tmp_path / "run")
    if lines:  # Python heard of it first
        assert both[1 - killed].returncode == 1
        assert re.search(
            rf"process {1 - killed} of 2 lost another process, .* resumes from checkpoint {step} in ", lines[0]
        )
    else:  # JAX, which ends the process from within
        assert both[1 - killed].returncode == -signal.SIGABRT
        assert "another task died" in errors
    assert step >= 20
    again = start("train.py", [*command, f"--config.train.steps={step + 20}"], processes=2)
    assert any(f"resuming from step {step} of " in text for text in read_until(again[0], "compiling"))
    finish(again)
