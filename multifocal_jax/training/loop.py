"""The training loop: resume, step, log, score, save."""

import collections
import contextlib
import functools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import numpy as np
import optax
from etils import epath

from multifocal_jax import processes
from multifocal_jax.config import ExperimentConfig
from multifocal_jax.config_files import to_dict
from multifocal_jax.data.pipeline import TrainingData
from multifocal_jax.errors import UserError
from multifocal_jax.evaluation import memory
from multifocal_jax.files import OutputError, write_text
from multifocal_jax.paths import as_path
from multifocal_jax.training.agreement import check_agreement
from multifocal_jax.training.best import BestWeights
from multifocal_jax.training.checkpoints import Checkpoints, folder_of, newest_step
from multifocal_jax.training.lease import Lease
from multifocal_jax.training.losses import make_loss
from multifocal_jax.training.optimizer import make_optimizer, make_schedule
from multifocal_jax.training.parallel import DataParallel, check_batch_size
from multifocal_jax.training.recorder import NotFiniteError, Recorder
from multifocal_jax.training.state import TrainState, create_state
from multifocal_jax.training.step import make_step
from multifocal_jax.training.stop import Stop
from multifocal_jax.training.validation import SMALLEST, Validation
from multifocal_jax.weights import flatten
from multifocal_jax.weights_lookup import load_weights_for

IN_FLIGHT = 2  # steps that the device may lag behind: enough to keep it busy, few enough to stop quickly


class TrainingError(UserError):
    """Training cannot continue. The message says at which step, why, and what was saved."""


@dataclass(frozen=True)
class TrainingResult:
    """The outcome of a run."""

    step: int  # the last one taken
    finished: bool  # False if a signal ended the run early; a restart resumes from there
    scores: dict[str, float]  # the latest of the held-out pictures; empty if they were not scored
    weights: epath.Path | None  # the best so far or, without held-out pictures, the last; None if none were written


def total_steps(config: ExperimentConfig, pictures: int) -> int:
    """Length of the run: `train.steps`, or `train.epochs` passes over `pictures`, to the nearest step."""
    return config.train.steps or max(1, round(config.train.epochs * pictures / config.train.batch_size))


def train(
    config: ExperimentConfig, workdir: epath.PathLike, quiet: bool = False, stop: Stop | None = None
) -> TrainingResult:
    """Train until the end of the schedule, resuming from the workdir's newest checkpoint if there is one.

    Training starts from the first of these that exists: the workdir's checkpoint, `train.init_weights`, random weights
    from the seed.

    Args:
        config: the experiment.
        workdir: folder for checkpoints, logs and weights; created if necessary.
        quiet: print nothing.
        stop: asks the run to save and end early.

    Raises:
        UserError: the data, the workdir or the config cannot be used, another training uses the workdir, or loss,
            gradients or parameters are no longer finite.
        LostProcessError: another process of this program is gone.
    """
    processes.check_joined()
    options, stop, workdir = config.train, stop or Stop(), epath.Path(as_path(workdir))
    main = processes.index() == 0
    with contextlib.ExitStack() as stack:
        if options.precision == "float64":
            stack.enter_context(jax.enable_x64(True))
        with processes.together():
            check_batch_size(options.batch_size, options.accumulate, jax.device_count())
            make_loss(options)  # so that a faulty one is found before pictures are read
            share = processes.index(), processes.count()
            data = TrainingData(config.data, options.batch_size, options.seed, *share, quiet)
            data.check_held_out(SMALLEST)
            say = None if quiet else functools.partial(print, file=sys.stderr, flush=True)
            lease = stack.enter_context(Lease(workdir, say)) if main else None
        stack.enter_context(_explained(workdir))
        check_agreement(config, data, workdir)

        total = total_steps(config, data.pictures)
        schedule = make_schedule(options, data.pictures / options.batch_size, total)
        optimizer = make_optimizer(options, schedule)
        parallel = DataParallel(options.parallel, make_step(config, optimizer, schedule, data.prepare))
        checkpoints = stack.enter_context(Checkpoints(workdir, config, data.counts))
        validation = Validation(config, data.held_out) if len(data.held_out) else None
        restored = checkpoints.restore(create_state(config, optimizer))
        best = BestWeights(config, workdir, validation, data.fingerprints, resumed=restored is not None)
        if main:
            write_text(workdir / "config.json", json.dumps(to_dict(config), indent=2) + "\n")
        recorder = stack.enter_context(contextlib.closing(Recorder(config, workdir, data, total, validation, quiet)))
        state = _first_state(recorder, config, optimizer, restored, workdir)
        recorder.say(
            f"{data.pictures} pictures, {total} steps ({total * options.batch_size / data.pictures:.0f} epochs) of "
            f"{options.batch_size}; {len(data.held_out)} pictures held out; "
            f"{jax.device_count()} × {jax.devices()[0].device_kind}"
        )

        start = step = int(state.step)
        state, resident = parallel.replicate(state), parallel.replicate(data.resident)
        batches, in_flight = data.batches(start), collections.deque()
        for step in range(start + 1, total + 1):
            with recorder.waiting():
                batch = next(batches)
            if step == start + 1:
                with recorder.compiling(step):
                    state, metrics = jax.block_until_ready(parallel(state, resident, batch))
            else:
                with jax.transfer_guard("disallow"):  # nothing but the batch crosses to the devices
                    state, metrics = parallel(state, resident, batch)
            recorder.took(metrics, timed=step > start + 1)
            in_flight.append(metrics)
            if len(in_flight) > IN_FLIGHT:
                jax.block_until_ready(in_flight.popleft())
            if lease:
                lease.check()
            last, stopped = step == total, stop.requested(step)
            scored = bool(validation) and (last or _every(options.eval_every, step))
            saved = last or stopped or scored or _every(options.checkpoint_every, step)
            pictured = last or _every(options.image_every, step) if options.image_every else scored
            if saved or pictured or _every(options.log_every, step):
                recorder.log(step)  # ends the run before anything that is not finite is saved
            if scored:
                _score(best, recorder, checkpoints, state, step)
            if saved:
                checkpoints.save(state, best.scores if scored else None)
            if pictured:
                recorder.pictures(step, state.weights)
            if saved or pictured:
                recorder.restart()
            if stopped:
                break

        finished = step >= total
        if finished and validation and not best.scores:  # the last step was taken, but perhaps not scored
            _score(best, recorder, checkpoints, state, step)
        checkpoints.wait()
        if finished and (validation is None or not best.file.exists()):
            best.write(state)
        if not finished:
            recorder.say(f"stopped by a signal at step {step}, saved; the same command resumes from here")
        return TrainingResult(step, finished, best.scores, best.file if best.file.exists() else None)


def _first_state(
    recorder: Recorder,
    config: ExperimentConfig,
    optimizer: optax.GradientTransformation,
    restored: TrainState | None,
    workdir: epath.Path,
) -> TrainState:
    """The initial or restored state; says which."""
    if restored is not None:
        state, origin = restored, f"resuming from step {int(restored.step)} of {workdir}"
    elif config.train.init_weights:
        weights = load_weights_for(config.train.init_weights, config.model)
        state, origin = create_state(config, optimizer, weights.params), f"starting from {config.train.init_weights}"
    else:
        state, origin = create_state(config, optimizer), f"starting from random weights, seed {config.train.seed}"
    counts: dict[str, int] = collections.Counter()
    for name, value in flatten(state.params).items():
        counts[name.split(".")[0]] += int(np.size(value))
    parts = ", ".join(f"{group} {count:,}" for group, count in counts.items())
    recorder.say(f"{origin}; {sum(counts.values()):,} parameters ({parts})")
    return state


def _score(best: BestWeights, recorder: Recorder, checkpoints: Checkpoints, state: TrainState, step: int) -> None:
    """Score the held-out pictures; if that fails, in all processes alike, save the training all the same."""
    try:
        recorder.scores(step, best.score(state))
    except Exception:
        checkpoints.save(state)
        checkpoints.wait()
        raise


@contextlib.contextmanager
def _explained(workdir: epath.Path) -> Iterator[None]:
    """For errors of the machine, say what was saved and how to resume."""
    try:
        yield
    except Exception as error:
        newest = newest_step(workdir)
        left = f"checkpoint {newest} in {folder_of(workdir)}" if newest is not None else "the start"
        if lost := processes.loss_of_process(error):
            raise processes.LostProcessError(f"{lost}; the same command on all of them resumes from {left}") from error
        if isinstance(error, NotFiniteError):
            good = f"the last good checkpoint is step {newest}" if newest is not None else "no checkpoint was saved"
            raise TrainingError(
                f"{error}; {good} in {folder_of(workdir)}. Lower train.learning_rate or set train.clip_norm"
            ) from error
        if memory.exhausted(error):
            raise TrainingError(
                "the training does not fit into the device's memory; raise train.accumulate, set data.mode to 'memory' "
                f"or, in another workdir, lower train.batch_size; the training resumes from {left}"
            ) from error
        if isinstance(error, (OSError, OutputError)):
            raise TrainingError(
                f"training cannot continue: {error}; checkpoints in {folder_of(workdir)} are intact. Free some space "
                "if the disk is full, and run the same command again"
            ) from error
        raise


def _every(steps: int, step: int) -> bool:
    """Whether something that happens every `steps` steps (never if 0) is due at this step."""
    return bool(steps) and step % steps == 0
