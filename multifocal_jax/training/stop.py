"""Ending a training cleanly when it is preempted or the user interrupts it."""

from multifocal_jax import processes


class Stop:
    """A request to save and end; with several processes all end at the same step."""

    def __init__(self) -> None:
        self.signal: int | None = None  # the one that requested it, set by the signal handler
        self.worthwhile = False  # whether there are steps that ending at once would lose

    def requested(self, step: int) -> bool:
        """Whether to save and end after this step; call it after every step."""
        self.worthwhile = True
        if processes.count() > 1:  # JAX handles SIGTERM and notifies all processes
            from jax.experimental import multihost_utils

            return multihost_utils.reached_preemption_sync_point(step)
        return self.signal is not None
