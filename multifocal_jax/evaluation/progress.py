"""Progress reports of a `Derainer`, which also responds to Ctrl-C while it works."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

_TICK = 1.0  # seconds between progress reports

T = TypeVar("T")


@dataclass(frozen=True)
class Compiling:
    """The network is about to be compiled for pictures of this size in pixels."""

    height: int
    width: int


@dataclass(frozen=True)
class Tiling:
    """Pictures of this size are tiled from now on, because they do not fit into memory whole.

    Attributes:
        height, width: of the pictures, in pixels.
        tile: side of the tiles in pixels.
        needed: bytes that the whole picture, or one of the larger tiles used so far, would need.
        free: bytes available; None if the device does not report it.
    """

    height: int
    width: int
    tile: int
    needed: int
    free: int | None


@dataclass(frozen=True)
class Running:
    """A picture is being de-rained; reported at the start, after every tile, about every second, and at the end.

    Attributes:
        height, width: of the picture, in pixels.
        done, total: number of tiles; one for a picture processed whole.
        seconds: since the start.
        expected: estimated total seconds, from the pixels and the last speed; None if no speed is known.
    """

    height: int
    width: int
    done: int
    total: int
    seconds: float
    expected: float | None


Progress = Compiling | Tiling | Running
Report = Callable[[Progress], None]


def in_background(function: Callable[[], T], tick: Callable[[], None] = lambda: None) -> T:
    """Run a function in a separate thread, wait for it and return its result.

    Ctrl-C while JAX traces or XLA compiles or computes would only take effect when they finish, and crashes the process
    if it interrupts the construction of a program. This way the waiting thread handles it at once, and the other one
    runs to its end.

    Args:
        function: may use JAX, but does not see this thread's context managers.
        tick: called about every second.
    """
    executor = ThreadPoolExecutor(1, thread_name_prefix="multifocal")
    future = executor.submit(function)
    executor.shutdown(wait=False)
    while True:
        try:
            return future.result(timeout=_TICK)  # with a timeout, as Windows would not handle Ctrl-C without one
        except TimeoutError:
            if future.done():  # just now, or the function raised it
                return future.result()
        tick()
