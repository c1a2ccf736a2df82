"""How processes meet, and what keeps them from starting: one line each."""

import contextlib
import socket
import subprocess
import sys
import threading
import time

import jax
import pytest

from multifocal_jax import processes, rendezvous
from multifocal_jax.config import ExperimentConfig
from multifocal_jax.data.errors import ImageError
from multifocal_jax.evaluation.run import run
from multifocal_jax.processes import ProcessesError
from multifocal_jax.rendezvous import meet
from multifocal_jax.training.loop import train
from tests.launch import ROOT, free_port


@pytest.fixture
def outcomes(monkeypatch):
    """Lets threads meet as processes do; gives what each ended with."""
    monkeypatch.setattr(rendezvous, "_TURN_SECONDS", 0.02)
    monkeypatch.setattr(rendezvous, "_SILENT_SECONDS", 0.1)

    def start(*calls, patience=0.7):
        ended = {}

        def one(number, arguments):
            try:
                meet(*arguments, patience)
                ended[number] = "met"
            except ProcessesError as error:
                ended[number] = str(error)

        threads = [threading.Thread(target=one, args=call) for call in enumerate(calls)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        return ended

    return start


def test_processes_meet_whatever_comes_first(outcomes):
    place = f"127.0.0.1:{free_port()}"
    assert outcomes(*((place, 3, index) for index in (2, 1, 0)), patience=20) == dict.fromkeys(range(3), "met")
    rendezvous._listen(place).close()  # nothing keeps JAX from the port now


def test_all_say_who_is_waited_for_and_end_with_a_line(outcomes, capfd):
    place = f"127.0.0.1:{free_port()}"
    line = f"process 2 of 3 did not come to {place} within 0.7 s"
    assert all(text.startswith(line) for text in outcomes((place, 3, 0), (place, 3, 1)).values())
    said = capfd.readouterr().err.splitlines()
    assert set(said) == {f"waiting for 1 of 3 processes at {place}"}
    assert len(said) == 2 * 3  # after 0.1, 0.2 and 0.4 s
    line = f"process 0 of 3 did not come to {place} within 0.7 s"
    assert outcomes((place, 3, 1))[0].startswith(line)


def test_processes_that_are_not_wanted_are_refused_and_strangers_ignored(outcomes):
    port = free_port()
    place = f"127.0.0.1:{port}"

    def knock():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            return stranger.recv(100) == b""

    def come_late(*arguments):
        deadline = time.monotonic() + 20
        while not knock() and time.monotonic() < deadline:
            time.sleep(0.01)
        strange = outcomes((place, 3, 2), patience=20)
        assert strange[0].startswith(f"process 2 of 3 is not wanted at {place}: 2 processes meet there")
        ended.update(outcomes(*arguments, patience=20))

    ended = {}
    others = threading.Thread(target=come_late, args=[(place, 2, 1)])
    others.start()
    assert outcomes((place, 2, 0), patience=20) == {0: "met"}
    others.join(20)
    assert ended == {0: "met"}


@pytest.mark.parametrize(
    ("nodes", "host"),
    [("gpu-3", "gpu-3"), ("gpu-3,gpu-5", "gpu-3"), ("gpu-[001-004,7],x", "gpu-001"), ("n[5,7]", "n5")],
)
def test_slurm_says_where_process_0_is(nodes, host, monkeypatch):
    for name in ("JOB_ID", "NTASKS", "PROCID", "LOCALID"):
        monkeypatch.setenv(f"SLURM_{name}", "70007")
    monkeypatch.setenv("SLURM_STEP_NODELIST", nodes)
    monkeypatch.delenv("JAX_COORDINATOR_PORT", raising=False)
    assert processes._told_by_slurm() == (f"{host}:61815", 70007, 70007)  # 61440 + 70007 mod 4096, as JAX takes it


def refusal(workdir, *arguments):
    """What train.py says before it ends."""
    command = [sys.executable, ROOT / "train.py", "--config", ROOT / "configs" / "demo.py", "--workdir", workdir]
    ended = subprocess.run([*command, "--process-count=2", *arguments], capture_output=True, text=True, timeout=100)
    assert ended.returncode == 2
    return ended.stderr


def test_a_port_in_use_is_said_in_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        place = f"localhost:{taken.getsockname()[1]}"
        said = refusal(tmp_path, "--coordinator", place, "--process-id=0")
    assert f"error: process 0 cannot listen at {place}; is the port in use? Take another one" in said
    assert "Traceback" not in said


def test_a_process_that_does_not_come_is_said_in_one_line(tmp_path):
    place = f"127.0.0.1:{free_port()}"
    (line,) = refusal(tmp_path, "--coordinator", place, "--process-id=1", "--wait=1").splitlines()
    assert line.startswith(f"error: process 0 of 2 did not come to {place} within 1 s; ")


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


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (jax.errors.JaxRuntimeError("Gloo all-reduce failed: Connection closed by peer"), True),
        (ImageError("gs://set/1.png cannot be opened: Connection reset by peer"), False),
        (FileNotFoundError("/data/gloomy/1.png"), False),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory"), False),
    ],
)
def test_what_says_that_another_process_is_gone(error, lost, monkeypatch):
    assert processes.loss_of_process(error) is None
    monkeypatch.setattr(processes._group, "count", 2)
    assert bool(processes.loss_of_process(error)) is lost
