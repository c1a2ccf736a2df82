"""What a `Derainer` tells of its work while it works, and how it stays open to Ctrl-C meanwhile."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

_TICK = 1.0  # seconds between two looks at what is under way

T = TypeVar("T")


@dataclass(frozen=True)
class Compiling:
    """The network is about to be compiled for pictures of this size in pixels."""

    height: int
    width: int


@dataclass(frozen=True)
class Tiling:
    """Pictures of this size are cut into tiles from now on, as there is not the memory to take them whole.

    Attributes:
        height, width: of the pictures, in pixels.
        tile: side of the tiles.
        needed: bytes that the picture, or one of the larger tiles taken so far, would need.
        free: bytes that there are; None where the device does not say.
    """

    height: int
    width: int
    tile: int
    needed: int
    free: int | None


@dataclass(frozen=True)
class Running:
    """A picture is going through the network; told at the start, after every tile, about every second, and at the end.

    Attributes:
        height, width: of the picture, in pixels.
        done, total: tiles; one for a picture that is taken whole.
        seconds: since the start.
        expected: seconds that it will take in all, from its pixels and the last speed; None before there is one.
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
    """The result of a function that runs in a thread of its own, while this one waits.

    Ctrl-C while JAX traces or XLA compiles or computes would be heard at their end only, and crashes the process where
    it interrupts the building of a program. So this thread hears it, at once, and the other goes on to its end.

    Args:
        function: may use JAX, but for this thread's context managers.
        tick: called about every second.
    """
    executor = ThreadPoolExecutor(1, thread_name_prefix="multifocal")
    future = executor.submit(function)
    executor.shutdown(wait=False)
    while True:
        try:
            return future.result(timeout=_TICK)  # with a limit, as Windows hears no Ctrl-C without one
        except TimeoutError:
            if future.done():  # just now, or the function raised it
                return future.result()
        tick()
