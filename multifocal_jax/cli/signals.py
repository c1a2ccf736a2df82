"""Ctrl-C and SIGTERM while a training runs."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from multifocal_jax import processes
from multifocal_jax.training.stop import Stop

Result = TypeVar("Result")


def heed_signals(work: Callable[[], Result], stop: Stop) -> Result:
    """Run `work` in a thread, so that the main thread can handle signals even while XLA compiles.

    The first Ctrl-C or SIGTERM asks `stop` to save and end. A second one ends the process at once, and so does the
    first if nothing would be lost.

    Returns:
        The result of `work`; its errors are raised here.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    def heard(number: int, frame: Any) -> None:
        name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
        if stop.signal is not None or not stop.worthwhile:
            _say("interrupted" if number == signal.SIGINT else f"ended by {name}")
            os._exit(128 + number)
        stop.signal = number
        _say(f"{name}: saving after the step under way; a second one ends at once")
        if processes.count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)  # JAX handles it and notifies the other processes

    numbers = [signal.SIGINT] if processes.count() > 1 else [signal.SIGINT, signal.SIGTERM]
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if before[number] is not signal.SIG_IGN:  # as of a job in a shell's background
            signal.signal(number, heard)
    try:
        thread = threading.Thread(target=run, name="training", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(1)
    finally:
        for number in numbers:
            signal.signal(number, before[number])
    if errors:
        raise errors[0]
    return results[0]


def _say(text: str) -> None:
    from tqdm import tqdm

    tqdm.write(text, file=sys.stderr)  # above the bar, if there is one
    sys.stderr.flush()
