"""The output of a training run: messages, progress bar, metrics and sample pictures."""

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from etils import epath

from multifocal_jax import processes
from multifocal_jax.config import ExperimentConfig
from multifocal_jax.data.pipeline import TrainingData
from multifocal_jax.training.parallel import to_host
from multifocal_jax.training.step import Metrics
from multifocal_jax.training.validation import TrainingCrops, Validation
from multifocal_jax.training.writers import MetricWriter, Progress

NO_RAIN = 1e-4  # mean |R| of a network that has collapsed, a fortieth of a grey level


class NotFiniteError(Exception):
    """A metric of a step is not finite."""


class Recorder:
    """Lines and a bar on stderr, metrics and sample pictures in the workdir; only in process 0."""

    def __init__(
        self,
        config: ExperimentConfig,
        workdir: epath.Path,
        data: TrainingData,
        total: int,
        validation: Validation | None,
        quiet: bool,
    ) -> None:
        """Open the files of a run of `total` steps; without a `validation`, sample pictures are training crops."""
        self._config, self._data, self._total = config, data, total
        main = processes.index() == 0
        self._writer = MetricWriter(workdir, config.train.tensorboard) if main else None
        self._progress = Progress(total, quiet=quiet or not main)
        self.say = self._progress.say
        self._samples = validation
        if validation is None and main and config.train.image_every:
            self._samples = Validation(config, TrainingCrops(data))
        self._pending: list[Metrics] = []
        self._collapsed = False
        self._measure_anew()

    @contextlib.contextmanager
    def compiling(self, step: int) -> Iterator[None]:
        """Context of the first step, number `step`: report that it compiles and how long it took, open the bar."""
        with self._progress.timing("compiling the training step"):
            yield
        self._progress.open(step)
        self._measure_anew()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Context of the wait for the next batch."""
        begin = time.perf_counter()
        yield
        self._waited += time.perf_counter() - begin

    def restart(self) -> None:
        """Exclude the time since the last step from the speed."""
        self._measure_anew()
        self._progress.bar.unpause()

    def _measure_anew(self) -> None:
        self._begin, self._waited, self._timed = time.perf_counter(), 0.0, 0

    def took(self, metrics: Metrics, timed: bool) -> None:
        """Record the metrics of a step, which may still be running; `timed` if its time counts."""
        self._pending.append(metrics)
        if timed:
            self._timed += 1
            self._progress.bar.update()

    def log(self, step: int) -> None:
        """Fetch, show and write the metrics of the steps since the last call, up to this one.

        Raises:
            NotFiniteError: one of them is not finite.
        """
        rows = [{name: float(value) for name, value in row.items()} for row in to_host(self._pending)]
        self._pending = []
        for offset, row in enumerate(rows):
            for name in ("loss", "gradient_norm", "parameter_norm"):  # of these the last is that of the step's result
                if not math.isfinite(row[name]):
                    raise NotFiniteError(
                        f"the {name.replace('_', ' ')} is {row[name]} at step {step - len(rows) + 1 + offset}"
                    )
        elapsed = max(time.perf_counter() - self._begin, 1e-9)
        values = rows[-1] | {
            **{name: float(np.mean([row[name] for row in rows])) for name in ("loss", "mean_rain")},
            "epoch": step * self._config.train.batch_size / self._data.pictures,
            "waiting_for_data": self._waited / elapsed,
        }
        if self._timed:
            values["images_per_second"] = self._timed * self._config.train.batch_size / elapsed
        if self._data.skipped:
            values["skipped_pictures"] = self._data.skipped
        memory = jax.local_devices()[0].memory_stats()
        if memory and "peak_bytes_in_use" in memory:
            values["device_memory_gib"] = memory["peak_bytes_in_use"] / 2**30
        self._progress.show(step, values, (self._total - step) * elapsed / self._timed if self._timed else None)
        if values["mean_rain"] < NO_RAIN and not self._collapsed:
            self._collapsed = True
            self.say(
                f"step {step}: the network estimates no rain any more (mean |R| {values['mean_rain']:.0e}): if that "
                "lasts, start again with a lower learning rate, a longer warm-up or trained weights"
            )
        if self._writer:
            self._writer.scalars(step, values)
        self._measure_anew()

    def scores(self, step: int, scores: dict[str, float]) -> None:
        """Show and write the scores of the held-out pictures."""
        self.say(
            f"step {step}: held-out pictures {scores['psnr']:.2f} dB / {scores['ssim']:.4f}, "
            f"rainy {scores['rainy_psnr']:.2f} dB / {scores['rainy_ssim']:.4f}"
        )
        if self._writer:
            self._writer.scalars(step, {f"held_out_{name}": value for name, value in scores.items()})

    def pictures(self, step: int, params: Any) -> None:
        """Write sample pictures: the first held-out ones or, if there are none, training crops."""
        if self._writer and self._samples:
            for name, picture in self._samples.samples(to_host(params)):
                self._writer.picture(step, name, picture)

    def close(self) -> None:
        """Close the bar and the files."""
        self._progress.bar.close()
        if self._writer:
            try:
                self._writer.close()
            except Exception as error:  # a full disk or a bucket out of reach; the weights are what counts
                self.say(f"the last lines of metrics.jsonl could not be written: {error}")
