"""Ending a training in good order when the machine is wanted back, or the user has seen enough."""

from multifocal_jax import processes


class Stop:
    """A request to save and end; with several processes all end at the same step.

    Attributes:
        signal: number of the signal that asked for it; None while nothing did. Whoever hears signals sets it.
        worthwhile: whether there are steps that ending at once would lose.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.worthwhile = False

    def requested(self, step: int) -> bool:
        """Whether to save and end after this step; to be asked after every one."""
        self.worthwhile = True
        if processes.count() > 1:  # JAX hears SIGTERM, and tells all processes of it
            from jax.experimental import multihost_utils

            return multihost_utils.reached_preemption_sync_point(step)
        return self.signal is not None
