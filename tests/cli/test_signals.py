"""Ctrl-C beside work in a thread, as while XLA compiles; without JAX, which takes long to start."""

import signal
import subprocess
import sys
import time

import pytest

SCRIPT = """
import sys, time
from multifocal_jax.cli.signals import heed_signals
from multifocal_jax.training.stop import Stop

stop = Stop()

def work():
    print("begun", file=sys.stderr, flush=True)
    step = 0
    while not (sys.argv[1] == "train" and stop.requested(step)):
        time.sleep(0.05)
        step += 1
    while sys.argv[2] == "hang":
        time.sleep(1)
    return 7

print(heed_signals(work, stop), stop.signal)
"""


@pytest.mark.parametrize(
    ("phase", "end", "signals", "status", "last"),
    [
        ("compile", "", [signal.SIGINT], 130, "interrupted"),
        ("compile", "", [signal.SIGTERM], 143, "ended by SIGTERM"),
        ("train", "hang", [signal.SIGINT, signal.SIGINT], 130, "interrupted"),
        ("train", "", [signal.SIGINT], 0, "Ctrl-C: saving after the step under way; a second one ends at once"),
    ],
)
def test_the_first_signal_saves_what_there_is_and_the_second_ends_at_once(phase, end, signals, status, last):
    command = [sys.executable, "-c", SCRIPT, phase, end]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        line = process.stderr.readline()
        assert line == "begun\n"
        for number in signals:
            if phase == "train":
                time.sleep(0.3)  # some steps
            process.send_signal(number)
        lines = process.stderr.read().splitlines()
        output = process.stdout.read()
    assert process.returncode == status
    assert lines[-1] == last
    assert output == ("7 2\n" if status == 0 else "")
