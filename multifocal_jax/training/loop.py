"""The training loop: resume, step, log, score, save."""

import contextlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import jax
import numpy as np
from etils import epath

import multifocal_jax
from multifocal_jax import processes
from multifocal_jax.config import ExperimentConfig
from multifocal_jax.config_files import from_dict, to_dict
from multifocal_jax.data.pipeline import TrainingData
from multifocal_jax.errors import UserError
from multifocal_jax.files import OutputError, write_text
from multifocal_jax.paths import as_path
from multifocal_jax.training.checkpoints import Checkpoints, scored_alike
from multifocal_jax.training.clock import Clock
from multifocal_jax.training.commit import commit_of_package
from multifocal_jax.training.optimizer import make_optimizer, make_schedule
from multifocal_jax.training.parallel import DataParallel, check_batch_size, to_host
from multifocal_jax.training.state import TrainState, create_state
from multifocal_jax.training.step import Metrics, make_step
from multifocal_jax.training.stop import Stop
from multifocal_jax.training.validation import SMALLEST, TrainingCrops, Validation
from multifocal_jax.training.writers import MetricWriter, Progress
from multifocal_jax.weights import Weights, describe_weights, flatten, save_weights
from multifocal_jax.weights_lookup import WORKDIR_FILE, load_weights_for


class TrainingError(UserError):
    """Training cannot go on. The message says at which step, why, and what was saved."""


@dataclass(frozen=True)
class TrainingResult:
    """What a run ended with.

    Attributes:
        step: the last step taken.
        finished: False if a signal ended the run early; a restart goes on from there.
        scores: of the held-out pictures when they were scored last, empty if they were not.
        weights: the file with the best weights so far or, where no pictures are held out, the last ones; None if the
            run ended early and none were written.
    """

    step: int
    finished: bool
    scores: dict[str, float]
    weights: epath.Path | None


def total_steps(config: ExperimentConfig, pictures: int) -> int:
    """Length of the run: `train.steps`, or those that show `pictures` `train.epochs` times, to the nearest step."""
    return config.train.steps or max(1, round(config.train.epochs * pictures / config.train.batch_size))


def train(config: ExperimentConfig, workdir: epath.PathLike, quiet: bool = False) -> TrainingResult:
    """Train until the end of the schedule, going on from the workdir's newest checkpoint if it has one.

    The start is, in this order: the workdir's own checkpoint, `train.init_weights`, random weights from the seed.

    Args:
        config: the experiment.
        workdir: where checkpoints, logs and weights go; created if need be.
        quiet: print nothing.

    Raises:
        UserError: the data, the workdir or the config cannot be used, or loss, gradients or parameters are not finite
            any more.
    """
    processes.check_joined()
    with _precision(config):
        return _Run(config, epath.Path(as_path(workdir)), quiet).run()


@contextlib.contextmanager
def _precision(config: ExperimentConfig) -> Iterator[None]:
    if config.train.precision == "float64":
        with jax.enable_x64(True):
            yield
    else:
        yield


class _Run:
    """One call of `train`: everything that its phases share."""

    def __init__(self, config: ExperimentConfig, workdir: epath.Path, quiet: bool) -> None:
        self.config, self.workdir, self.quiet = config, workdir, quiet
        self.main = processes.index() == 0
        self.commit = commit_of_package()  # of the code that trains, whatever is committed while it does
        check_batch_size(config.train.batch_size, config.train.accumulate, jax.device_count())
        self.data = TrainingData(
            config.data,
            batch_size=config.train.batch_size,
            seed=config.train.seed,
            process_index=processes.index(),
            process_count=processes.count(),
        )
        self.data.check_held_out(SMALLEST)
        self.sources = self.data.fingerprints  # of the pictures as they are now
        self.total = total_steps(config, self.data.pictures)
        self.steps_per_epoch = self.data.pictures / config.train.batch_size
        schedule = make_schedule(config.train, self.steps_per_epoch, self.total)
        self.optimizer = make_optimizer(config.train, schedule)
        step = make_step(config, self.optimizer, schedule, self.data.prepare)
        self.parallel = DataParallel(config.train.parallel, step)
        workdir.mkdir(parents=True, exist_ok=True)
        self.checkpoints = Checkpoints(workdir, config)
        processes.restarts_from(self.checkpoints.folder)
        self.validation = Validation(config, self.data.held_out) if len(self.data.held_out) else None
        self.samples = self.validation
        if self.samples is None and self.main and config.train.image_every:
            self.samples = Validation(config, TrainingCrops(self.data))
        self.best = -math.inf
        self.scores: dict[str, float] = {}

    def run(self) -> TrainingResult:
        state, origin = self._start()
        start = int(state.step)
        if self.main:
            write_text(self.workdir / "config.json", json.dumps(to_dict(self.config), indent=2) + "\n")
        self.writer = MetricWriter(self.workdir, self.config.train.tensorboard) if self.main else None
        self.progress = Progress(start, self.total, quiet=self.quiet or not self.main)
        self._announce(state, origin)
        state = self.parallel.replicate(state)
        try:
            with Stop() as stop:
                state = self._steps(state, start, stop)
            result = self._finish(state)
            self.checkpoints.close()
            return result
        except BaseException as error:
            if processes.count() == 1:  # of several the others, who may be gone, would be waited for
                with contextlib.suppress(Exception):  # the error that is being raised says more
                    self.checkpoints.close()
            if isinstance(error, (OSError, OutputError)) and processes.loss_of_process(error) is None:
                raise TrainingError(
                    f"training cannot go on: {error}; checkpoints in {self.checkpoints.folder} are intact. Free some "
                    "space if the disk is full, and run the same command again"
                ) from error
            raise
        finally:
            self.progress.close()
            if self.writer:
                with contextlib.suppress(OSError):  # flushing to a full disk fails once more
                    self.writer.close()

    def _start(self) -> tuple[TrainState, str]:
        blank = create_state(self.config, self.optimizer)
        restored = self.checkpoints.restore(blank)
        if restored is not None:
            self._remember_best()
            return restored, f"going on from step {int(restored.step)} of {self.workdir}"
        if self.config.train.init_weights:
            return self._from_weights(), f"starting from {self.config.train.init_weights}"
        return blank, f"starting from random weights, seed {self.config.train.seed}"

    def _from_weights(self) -> TrainState:
        weights = load_weights_for(self.config.train.init_weights, self.config.model)
        return create_state(self.config, self.optimizer, weights.params)

    def _remember_best(self) -> None:
        """Take up the score of the weights in the workdir, if those of this run can be compared with it."""
        if self.validation is None:
            return
        with contextlib.suppress(UserError, KeyError):  # there are none, or none that this version wrote
            record = describe_weights(self.workdir / WORKDIR_FILE).record
            if scored_alike(from_dict(ExperimentConfig, record["config"]), self.config):
                self.best = record["held_out"]["psnr"]

    def _announce(self, state: TrainState, origin: str) -> None:
        counts: dict[str, int] = {}
        for name, value in flatten(state.params).items():
            group = name.split(".")[0]
            counts[group] = counts.get(group, 0) + int(np.size(value))
        parts = [f"{group} {count:,}" for group, count in counts.items()]
        self.progress.say(f"{origin}; {sum(counts.values()):,} parameters ({', '.join(parts)})")
        device = jax.devices()[0]
        self.progress.say(
            f"{self.data.pictures} pictures, {self.total} steps ({self.total / self.steps_per_epoch:.0f} epochs) of "
            f"{self.config.train.batch_size}; {len(self.data.held_out)} pictures held out; "
            f"{jax.device_count()} × {device.device_kind}"
        )

    def _steps(self, state: TrainState, start: int, stop: Stop) -> TrainState:
        train = self.config.train
        resident = self.parallel.replicate(self.data.resident)
        batches = self.data.batches(start)
        pending: list[Metrics] = []
        clock = Clock()
        for step in range(start + 1, self.total + 1):
            with clock.waiting():
                batch = next(batches)
            state, metrics = self.parallel(state, resident, batch)
            pending.append(metrics)
            if step == start + 1:
                jax.block_until_ready(metrics)
                self.progress.say(f"first step, compilation included: {clock.elapsed():.1f} s")
                clock.restart()
            self.progress.advance()
            last = step == self.total
            stopped = stop.requested(step)
            scored = bool(self.validation) and (last or _every(train.eval_every, step))
            saved = last or stopped or scored or _every(train.checkpoint_every, step)
            pictured = last or _every(train.image_every, step) if train.image_every else scored
            if saved or pictured or _every(train.log_every, step):
                self._log(step, pending, clock)  # which ends the run before anything that is not finite is kept
                pending = []
            if scored:
                self._validate(state, step)
            if saved:
                self.checkpoints.save(state, self.scores if scored else None)
            if pictured:
                self._write_pictures(state, step)
            if saved or pictured:
                clock.restart()
            if stopped and not last:
                self.progress.say(f"stopped by a signal at step {step}, saved; the same command goes on from here")
                break
        return state

    def _log(self, step: int, pending: list[Metrics], clock: Clock) -> None:
        """Fetch the figures of the steps since the last call, check and write them."""
        rows = [{name: float(value) for name, value in row.items()} for row in to_host(pending)]
        for offset, row in enumerate(rows):
            for name in ("loss", "gradient_norm", "parameter_norm"):  # of these the last is that of the step's result
                if not math.isfinite(row[name]):
                    self._refuse(step - len(rows) + 1 + offset, name, row[name])
        elapsed, timed = max(clock.elapsed(), 1e-9), clock.steps(len(rows))
        values = rows[-1] | {
            "loss": float(np.mean([row["loss"] for row in rows])),
            "epoch": step / self.steps_per_epoch,
            "waiting_for_data": clock.waited / elapsed,
        }
        if timed:
            values["images_per_second"] = timed * self.config.train.batch_size / elapsed
        if self.data.skipped:
            values["skipped_pictures"] = self.data.skipped
        memory = jax.local_devices()[0].memory_stats()
        if memory and "peak_bytes_in_use" in memory:
            values["device_memory_gib"] = memory["peak_bytes_in_use"] / 2**30
        self.progress.show(step, values, (self.total - step) * elapsed / timed if timed else None)
        if self.writer:
            self.writer.scalars(step, values)
        clock.restart()

    def _refuse(self, step: int, name: str, value: float) -> NoReturn:
        saved = self.checkpoints.newest()
        good = f"the last good checkpoint is step {saved}" if saved is not None else "no checkpoint was saved"
        raise TrainingError(
            f"the {name.replace('_', ' ')} is {value} at step {step}; {good} in {self.checkpoints.folder}. "
            "Lower train.learning_rate or set train.clip_norm"
        )

    def _validate(self, state: TrainState, step: int) -> None:
        """Score the held-out pictures, always the same ones, so that the best can be told.

        Where that fails, in all processes alike, what was trained is saved nevertheless.
        """
        assert self.validation is not None
        try:
            self.scores = self.validation.score(to_host(state.weights), self.config.train.eval_limit)
        except Exception:
            self.checkpoints.save(state)
            self.checkpoints.wait()
            if not (self.workdir / WORKDIR_FILE).exists():
                self._write_weights(state, step)
            raise
        if self.scores["psnr"] > self.best:
            self.best = self.scores["psnr"]
            self._write_weights(state, step)
        self.progress.say(
            f"step {step}: held-out pictures {self.scores['psnr']:.2f} dB / {self.scores['ssim']:.4f}, "
            f"rainy {self.scores['rainy_psnr']:.2f} dB / {self.scores['rainy_ssim']:.4f}"
        )
        if self.writer:
            self.writer.scalars(step, {f"held_out_{name}": value for name, value in self.scores.items()})

    def _write_pictures(self, state: TrainState, step: int) -> None:
        """Write sample pictures: the first held out or, where there are none, crops that are trained on."""
        if self.writer and self.samples:
            for name, picture in self.samples.samples(to_host(state.weights)):
                self.writer.picture(step, name, picture)

    def _write_weights(self, state: TrainState, step: int) -> None:
        if not self.main:
            return
        record = {
            "experiment": self.config.name,
            "config": to_dict(self.config),
            "sources": self.sources,
            "step": step,
            "images": step * self.config.train.batch_size,
            "seed": self.config.train.seed,
            "held_out": self.scores,
            "version": multifocal_jax.__version__,
            "commit": self.commit,
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
        }
        weights = Weights(to_host(state.weights), self.config.model, record)
        save_weights(self.workdir / WORKDIR_FILE, weights)

    def _finish(self, state: TrainState) -> TrainingResult:
        step = int(to_host(state.step))
        finished = step >= self.total
        if finished and self.validation and not self.scores:  # the run had its last step, but maybe not its score
            self._validate(state, step)
        self.checkpoints.wait()
        file = self.workdir / WORKDIR_FILE
        if finished and (self.validation is None or not file.exists()):
            self._write_weights(state, step)
        return TrainingResult(step, finished, self.scores, file if file.exists() else None)


def _every(steps: int, step: int) -> bool:
    """Whether something that is due every so many steps, or never where that is 0, is due at this one."""
    return bool(steps) and step % steps == 0
