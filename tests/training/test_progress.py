"""The bar of a training on a terminal."""

import io
import re
import sys

from multifocal_jax.training.writers import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_counts_time_from_the_steps_alone(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = Progress(300)
    progress.say("resuming from step 50")
    with progress.timing("compiling the training step"):
        progress.bar.update()
    assert re.fullmatch(r"resuming from step 50\ncompiling the training step: \d\.\d s\n", terminal.getvalue())
    progress.open(51)
    now = [progress.bar.start_t]
    monkeypatch.setattr(progress.bar, "_time", lambda: now[0])
    for _ in range(10):
        now[0] += 0.5
        progress.bar.update()
    now[0] += 60  # a score
    progress.bar.unpause()
    for _ in range(9):
        now[0] += 0.5
        progress.bar.update()
    assert "70/300 [00:09<01:55,  2.00step/s" in str(progress.bar)  # 230 steps at two a second
    progress.bar.close()
    plain = Progress(300, quiet=True)
    plain.open(51)
    assert plain.bar.disable
