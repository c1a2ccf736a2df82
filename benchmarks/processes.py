"""Runs each side in a separate process, with a timeout."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.work import SideConfig, Work

PATIENCE = 300.0  # seconds for one answer, compilation included


class SideError(RuntimeError):
    """A side ended or did not answer; the message is its last line."""


def environment_for(platform: str) -> dict[str, str]:
    """Environment of a process that works on this platform, with nothing compiled beforehand."""
    variables = dict(os.environ)
    for name in ("JAX_COMPILATION_CACHE_DIR", "XLA_FLAGS"):
        variables.pop(name, None)
    if platform == "cpu":
        return variables | {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    variables.pop("JAX_PLATFORMS", None)
    one = variables.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]  # the twin has one GPU
    return variables | {"CUDA_VISIBLE_DEVICES": one, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # shares its memory


class SideProcess:
    """`benchmarks.side` at work. Leaving the context ends it."""

    def __init__(self, work: Work, side: SideConfig) -> None:
        self.name = side.name
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in __exit__)
        self.answers: queue.Queue[str] = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.side", json.dumps({"work": work.to_json(), "side": vars(side)})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            cwd=Path(__file__).parents[1],
            env=environment_for(work.platform),
        )
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.answers.put(line)
        self.answers.put("")

    def answer(self) -> dict[str, Any]:
        """The next answer.

        Raises:
            SideError: there is none.
        """
        try:
            line = self.answers.get(timeout=PATIENCE)
        except queue.Empty:
            raise SideError(f"{self.name}: no answer within {PATIENCE:.0f} s") from None
        if not line:
            self.process.wait()
            self.errors.seek(0)
            said = [text for text in self.errors.read().splitlines() if text.strip()]
            raise SideError(f"{self.name}: {said[-1] if said else f'ended with status {self.process.returncode}'}")
        return json.loads(line)

    def ask(self, count: int) -> dict[str, Any]:
        """Tell the side to run `count` times, or with 0 to report."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `answer` says why
            self.process.stdin.write(f"{count}\n")
            self.process.stdin.flush()
        return self.answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if error is not None:
            self.process.kill()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.listener.join()
        self.process.stdout.close()
        self.errors.close()


def seconds_of_command(command: list[str], platform: str, **variables: str) -> float:
    """Wall time of a whole process.

    Raises:
        SideError: it failed or did not end.
    """
    begin = time.perf_counter()
    try:
        done = subprocess.run(
            command,
            env=environment_for(platform) | variables,
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise SideError(f"{command[-1]}: did not end within {PATIENCE:.0f} s") from None
    if done.returncode:
        raise SideError((done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1])
    return time.perf_counter() - begin
