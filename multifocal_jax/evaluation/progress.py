"""Progress reports of a `Derainer`, which also responds to Ctrl-C while it works; sizes are in pixels."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

_TICK = 1.0  # seconds between progress reports

T = TypeVar("T")


@dataclass(frozen=True)
class Compiling:
    """The network is about to be compiled for pictures of this size."""

    height: int
    width: int


@dataclass(frozen=True)
class Tiling:
    """Pictures of this size are tiled from now on, because they do not fit into memory whole."""

    height: int
    width: int
    tile: int  # side of the tiles
    needed: int  # bytes that the whole picture, or one of the larger tiles used so far, would need
    free: int | None  # bytes available; None if the device does not report it


@dataclass(frozen=True)
class Running:
    """A picture is being de-rained; reported at the start, after every tile, about every second, and at the end."""

    height: int
    width: int
    done: int  # number of tiles
    total: int  # likewise; one for a picture processed whole
    seconds: float  # since the start
    expected: float | None  # estimated total seconds, from the pixels and the last speed; None if no speed is known


Progress = Compiling | Tiling | Running
Report = Callable[[Progress], None]


def in_background(function: Callable[[], T], tick: Callable[[], None] = lambda: None) -> T:
    """Run a function in a separate thread, wait for it, calling `tick` about every second, and return its result.

    Ctrl-C while JAX traces or XLA compiles or computes would only take effect when they finish, and crashes the process
    if it interrupts the construction of a program. This way the waiting thread handles it at once, and the other one
    runs to its end. The function does not see this thread's context managers.
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
