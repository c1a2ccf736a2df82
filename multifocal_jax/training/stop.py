"""Ending a training in good order when the machine is wanted back."""

import contextlib
import signal
from typing import Any, Self

from multifocal_jax import processes


class Stop:
    """Turns SIGTERM into a request to save and end; with several processes all end at the same step."""

    def __enter__(self) -> Self:
        self.flag = False
        self.previous: Any = None
        if processes.count() == 1:
            with contextlib.suppress(ValueError):  # not in the main thread, as in some tests and notebooks
                self.previous = signal.signal(signal.SIGTERM, self._set)
        return self

    def _set(self, *_: Any) -> None:
        self.flag = True

    def requested(self, step: int) -> bool:
        if processes.count() > 1:
            from jax.experimental import multihost_utils

            return multihost_utils.reached_preemption_sync_point(step)
        return self.flag

    def __exit__(self, *_: object) -> None:
        if self.previous is not None:
            signal.signal(signal.SIGTERM, self.previous)
