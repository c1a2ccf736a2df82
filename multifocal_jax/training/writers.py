"""Writers of a run's metrics and pictures: JSON lines, TensorBoard, plain log lines and the progress bar."""

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from etils import epath
from PIL import Image
from tqdm import tqdm

from multifocal_jax.paths import Mirror


class MetricWriter:
    """Writes scalars to `metrics.jsonl` and TensorBoard, and pictures to `images/` and TensorBoard.

    Used only by process 0. Everything is flushed at once, so that a killed run loses nothing; in a bucket, growing
    files are updated every half minute.
    """

    def __init__(self, workdir: epath.PathLike, tensorboard: bool = True) -> None:
        """Append to the files of `workdir`, an existing folder; TensorBoard events are optional."""
        self.workdir = epath.Path(workdir)
        self.mirror = Mirror(workdir, "metrics.jsonl")
        file = self.mirror.folder / "metrics.jsonl"
        torn = file.exists() and file.read_bytes()[-1:] not in (b"", b"\n")  # a killed run may leave half a line
        self.lines = file.open("a")
        if torn:
            self.lines.write("\n")
        self.events = None
        if tensorboard:
            # Not SummaryWriter: a full disk kills its thread, and training would wait for it forever.
            from tensorboardX.event_file_writer import EventsWriter

            self.events = EventsWriter(str(self.mirror.folder / "events"))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Write one line of named values; values that are not finite become null in JSON."""
        line: dict[str, float | None] = {"step": step, "time": round(time.time(), 3)}
        line |= {name: value if math.isfinite(value) else None for name, value in values.items()}
        self.lines.write(json.dumps(line) + "\n")
        self.lines.flush()
        for name, value in values.items():
            self._event(step, "scalar", name, value)
        self.mirror.update()

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Write a picture, uint8 (H, W, 3), as STEP_NAME.png."""
        folder = self.workdir / "images"
        folder.mkdir(exist_ok=True)
        with (folder / f"{step:07d}_{name}.png").open("wb") as file:
            Image.fromarray(image).save(file, "PNG")
        self._event(step, "image", name, image, dataformats="HWC")

    def _event(self, step: int, kind: str, *content: Any, **options: Any) -> None:
        if self.events:
            from tensorboardX import summary
            from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]  # by protobuf

            made = getattr(summary, kind)(*content, **options)
            self.events.write_event(Event(wall_time=time.time(), step=step, summary=made))
            self.events.flush()

    def close(self) -> None:
        """Flush and close."""
        self.lines.close()
        if self.events:
            self.events.close()
        self.mirror.close()


class Progress:
    """A bar with loss, learning rate, images per second and time left on a terminal; plain lines elsewhere."""

    def __init__(self, total: int, quiet: bool = False) -> None:
        """Show progress to step `total`; `quiet` shows nothing."""
        self.total, self.quiet = total, quiet
        self.bar = tqdm(disable=True)

    def open(self, step: int) -> None:
        """Draw the bar; speed and time left are counted from this step on."""
        hidden = self.quiet or not sys.stderr.isatty()
        self.bar = tqdm(initial=step, total=self.total, unit="step", dynamic_ncols=True, disable=hidden)

    def show(self, step: int, values: dict[str, float], seconds_left: float | None) -> None:
        """Show the latest metrics, with speed and time left if known."""
        text = f"loss {values['loss']:.4f}, lr {values['learning_rate']:.1e}"
        if "images_per_second" in values:
            text += f", {values['images_per_second']:.1f} images/s"
        if sys.stderr.isatty():
            self.bar.set_postfix_str(text, refresh=False)
            return
        if seconds_left is not None:
            days = f"{int(seconds_left // 86400)}d " if seconds_left >= 86400 else ""
            text += f", {days}{time.strftime('%H:%M:%S', time.gmtime(seconds_left))} left"
        self.say(f"step {step}/{self.total}: {text}")

    def say(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        if not self.quiet:
            tqdm.write(text, file=sys.stderr)

    @contextlib.contextmanager
    def timing(self, text: str) -> Iterator[None]:
        """Print a line with `text` and the seconds that the block took."""
        if not self.quiet:
            print(f"{text}: ", end="", file=sys.stderr, flush=True)
        begin, outcome = time.perf_counter(), "failed after "
        try:
            yield
            outcome = ""
        finally:
            self.say(f"{outcome}{time.perf_counter() - begin:.1f} s")
