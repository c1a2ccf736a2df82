"""Progress of de-raining on stderr; see `multifocal_jax.evaluation.progress`."""

import sys
from typing import Any

from tqdm import tqdm

from multifocal_jax.evaluation.memory import spell
from multifocal_jax.evaluation.progress import Compiling, Progress, Running, Tiling

_DELAY = 2  # seconds before a picture gets a bar: faster ones, such as a video's frames, are counted elsewhere
_QUIET = 10  # seconds between updates of the bar in a log


class Display:
    """Shows what a `Derainer` reports: a line for compiling and for tiling, a bar that counts tiles or seconds."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, progress: Progress) -> None:
        """Show it."""
        match progress:
            case Compiling(height, width):
                self._say(f"compiling for {width}×{height}, once per size")
            case Tiling(height, width, tile, needed, free):
                has = "the device has less" if free is None else f"{spell(free)} are free"
                self._say(
                    f"pictures of {width}×{height} are taken in tiles of {tile}: more at once needs {spell(needed)}, "
                    f"and {has} (--tile N forces, --tile 0 takes them whole or not at all)"
                )
            case Running():
                self._show(progress)

    def _say(self, line: str) -> None:
        tqdm.write(line, file=sys.stderr)

    def _show(self, state: Running) -> None:
        if state.seconds < _DELAY or state.done == state.total:
            self._close()
        elif self._bar is None:
            self._bar = self._open(state)
            self._bar.refresh()
        else:
            self._bar.update(self._position(state) - self._bar.n)

    def _open(self, state: Running) -> Any:
        about = f" of about {tqdm.format_interval(state.expected)}" if state.expected else ""
        whole = "{desc}: {elapsed}" + about + (" |{bar}| {percentage:.0f}%" if about else "")
        bar = tqdm(
            total=state.total if state.total > 1 else state.expected,
            delay=1e-9,  # not drawn before its start is put right
            desc=f"{state.width}×{state.height}",
            unit="tile",
            bar_format=whole if state.total == 1 else None,
            mininterval=0.1 if sys.stderr.isatty() else _QUIET,
            miniters=0,
            smoothing=0,  # ticks between the tiles would count as such
            leave=False,
            dynamic_ncols=True,
        )
        bar.start_t -= state.seconds
        bar.n = self._position(state)
        return bar

    def _position(self, state: Running) -> float:
        """Tiles done, or seconds passed, which stay below the estimate until there is a result."""
        if state.total > 1:
            return state.done
        return min(state.seconds, 0.99 * state.expected) if state.expected else state.seconds

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
