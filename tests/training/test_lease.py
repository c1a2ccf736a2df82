"""One training at a time in a workdir."""

import contextlib
import functools
import json
import os
import socket
import subprocess
import sys
import time

import psutil
import pytest

from multifocal_jax.training import lease
from multifocal_jax.training.lease import FILE, Lease, WorkdirInUseError, read_lease


@functools.cache
def ended():
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return process.pid


def write(workdir, **changes):
    """A lease of a process that lived here until a moment ago, but for the changes."""
    facts = {"host": socket.gethostname(), "process": ended(), "started": 1.0, "id": "other", "renewed": time.time()}
    space = os.readlink("/proc/self/ns/pid") if os.path.exists("/proc/self/ns/pid") else ""
    (workdir / FILE).write_text(json.dumps(facts | {"space": space} | changes))


def test_a_second_training_is_refused_with_host_and_process_of_the_first(tmp_path):
    with Lease(tmp_path / "run"):
        refusal = rf"run is in use: process {os.getpid()} on {socket.gethostname()} trains there"
        with pytest.raises(WorkdirInUseError, match=refusal), Lease(tmp_path / "run"):
            pass
        assert read_lease(tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize(
    "changes",
    [
        {},  # the process has ended
        {"process": os.getpid(), "renewed": time.time() - 1e4},  # its number is now another one's
        {"host": "elsewhere", "renewed": time.time() - 1e4},
        {"space": "another container", "renewed": 0},
    ],
)
def test_a_lease_whose_holder_is_dead_is_taken_at_once(tmp_path, changes):
    write(tmp_path, **changes)
    with Lease(tmp_path) as taken:
        taken.check()
        mine = read_lease(tmp_path)
        assert mine is not None
        assert (mine["process"], mine["started"]) == (os.getpid(), psutil.Process().create_time())


def test_a_damaged_lease_holds_nobody_up(tmp_path):
    (tmp_path / FILE).write_text('{"host": ')
    with Lease(tmp_path):
        pass


@pytest.mark.parametrize(
    "holder",
    [
        {"host": "elsewhere"},
        {"process": os.getpid()},  # started at another time, or the clock has been set since then
    ],
)
def test_a_process_of_another_host_is_given_time_to_show_that_it_lives(tmp_path, monkeypatch, holder):
    monkeypatch.setattr(lease, "_TURN_SECONDS", 0.01)
    monkeypatch.setattr(lease, "STALE_SECONDS", 1)
    said, host = [], holder.get("host", socket.gethostname())
    begin = time.monotonic()
    write(tmp_path, **holder)
    with Lease(tmp_path, said.append):
        assert time.monotonic() - begin > 0.9
    write(tmp_path, **holder, renewed=time.time() + 3600)  # by a clock that is ahead
    with Lease(tmp_path):
        assert time.monotonic() - begin < 10
    (line,) = said
    assert f"on {host} a moment ago" in line
    monkeypatch.setattr(lease, "STALE_SECONDS", 60)
    write(tmp_path, **holder)
    renewed = Lease(tmp_path, lambda _: write(tmp_path, **holder))
    with pytest.raises(WorkdirInUseError, match=rf"process .* on {host} trains there"), renewed:
        pass


def test_of_two_that_start_at_the_same_moment_one_remains(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "read_lease", lambda _: None)  # neither has seen the other
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(Lease(tmp_path)) for _ in range(2))
        monkeypatch.undo()
        deadline = time.monotonic() + 20
        while not first._taken_by and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(WorkdirInUseError, match=r"has taken .*: it started at the same moment, or"):
            first.check()
        second.check()
        first.__exit__()
        assert (read_lease(tmp_path) or {})["id"] == second._mine["id"]
    assert read_lease(tmp_path) is None


def test_a_bucket_out_of_reach_does_not_turn_a_finished_training_into_an_error(tmp_path, monkeypatch):
    with Lease(tmp_path):
        monkeypatch.setattr(lease, "read_lease", lambda _: 1 / 0)


def test_a_lease_is_renewed_and_one_that_was_taken_over_ends_its_training(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "RENEWAL_SECONDS", 0.05)

    def until(condition):
        deadline = time.monotonic() + 20
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert condition()

    class HttpError(Exception):
        """What a bucket out of reach raises, which is no OSError."""

    failures, write_lease = iter(range(2)), Lease._write

    def sometimes(self):
        if self._thread.is_alive() and next(failures, None) is not None:
            raise HttpError
        write_lease(self)

    monkeypatch.setattr(Lease, "_write", sometimes)
    with Lease(tmp_path) as held:
        first = read_lease(tmp_path)
        assert first is not None
        until(lambda: (read_lease(tmp_path) or first)["renewed"] > first["renewed"])
        held.check()
        assert next(failures, None) is None
        assert (read_lease(tmp_path) or {})["id"] == first["id"]

        def is_taken():
            write(tmp_path, host="elsewhere")
            return held._taken_by

        until(is_taken)
        with pytest.raises(WorkdirInUseError, match="on elsewhere has taken"):
            held.check()
    assert (read_lease(tmp_path) or {})["host"] == "elsewhere"
