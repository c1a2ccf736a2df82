"""Checkpoints: asynchronous, atomic, complete enough to go on exactly, and checked when they are read."""

import contextlib
import errno
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
from absl import logging
from etils import epath

from multifocal_jax import processes
from multifocal_jax.config import ExperimentConfig
from multifocal_jax.config_files import changed_fields, from_dict, to_dict
from multifocal_jax.errors import UserError
from multifocal_jax.paths import as_absolute
from multifocal_jax.training.parallel import to_host
from multifocal_jax.training.state import TrainState

# Fields that may change between a run and its continuation, as they do not change what is computed.
HARMLESS = (
    "name",
    "data.root",
    "data.test",
    "data.mode",
    "data.memory_limit",
    "data.workers",
    "data.on_broken",
    "train.epochs",
    "train.steps",
    "train.parallel",
    "train.init_weights",
    "train.log_every",
    "train.eval_every",
    "train.eval_limit",
    "train.image_every",
    "train.checkpoint_every",
    "train.keep",
    "train.tensorboard",
    "eval.",
)
# Fields that decide what the scores of the held-out pictures mean; scores that differ in them are not compared.
SCORING = ("train.eval_limit", "eval.family", "eval.tile", "eval.overlap")


class CheckpointError(UserError):
    """A workdir's checkpoints cannot be used. The message names the workdir, the problem and the fix."""


def newest_step(workdir: epath.PathLike) -> int | None:
    """Step of the newest finished checkpoint of a workdir: Orbax renames one to its number when it is complete."""
    try:
        return max((int(path.name) for path in folder_of(workdir).iterdir() if path.name.isdecimal()), default=None)
    except OSError:
        return None


def folder_of(workdir: epath.PathLike) -> epath.Path:
    """Where the checkpoints of a workdir lie."""
    return epath.Path(workdir) / "checkpoints"


def incompatible(old: ExperimentConfig, new: ExperimentConfig) -> list[str]:
    """The differences between two configs that forbid to continue one with the other, a line each."""
    harmless = HARMLESS
    if new.train.schedule == "cosine":  # its shape depends on the length of the run
        harmless = tuple(name for name in harmless if name not in ("train.epochs", "train.steps"))
    return [str(change) for change in changed_fields(old, new) if not change.name.startswith(harmless)]


def scored_alike(old: ExperimentConfig, new: ExperimentConfig) -> bool:
    """Whether scores of the held-out pictures under one config can be compared with those under the other."""
    return not any(change.name in SCORING for change in changed_fields(old, new))


def _digest(arrays: Any) -> int:
    """CRC-32 over all leaves in order, so that damage inside a file is noticed."""
    checksum = 0
    for leaf in jax.tree.leaves(arrays):
        checksum = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), checksum)
    return checksum


def _reason(error: Exception) -> str:
    """The system's words where a message holds them, as TensorStore's fill pages; it says the cause last."""
    text = " ".join(str(error).split()).partition(" [tensorstore_spec=")[0] or type(error).__name__
    known = (os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO))
    return next((words for words in known if words in text), text if len(text) <= 200 else f"…{text[-200:]}")


class _Best:
    """Orbax's policy that keeps the best checkpoint, by scores that the checkpoints hold themselves.

    Its own `BestN` forgets them at a restart, unless `best_fn` is set; it then keeps them in files of their own, and
    does not open a folder in which one of these is damaged.
    """

    def __init__(self) -> None:
        self.psnr: dict[int, float] = {}  # by step, of those that were scored

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """Whether to keep each of `checkpoints`: the one of the highest PSNR, of equal ones the newest."""
        scored = [info.step for info in checkpoints if info.step in self.psnr]
        best = max(scored, key=lambda step: (self.psnr[step], step), default=None)
        return [info.step == best for info in checkpoints]


class Checkpoints:
    """The checkpoints of one workdir: the newest `keep` and the best.

    They hold the state as NumPy arrays, so that a run can go on with another number of devices or processes.
    """

    def __init__(self, workdir: epath.PathLike, config: ExperimentConfig) -> None:
        """Open `workdir/checkpoints`, creating it if need be."""
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers

        self.ocp, self.config = ocp, config
        self.folder = folder_of(workdir)
        self.best = _Best()
        policy = checkpoint_managers.AnyPreservationPolicy(
            [checkpoint_managers.LatestN(n=config.train.keep), self.best]
        )
        self.manager = ocp.CheckpointManager(
            as_absolute(self.folder),
            item_names=("state", "meta"),
            options=ocp.CheckpointManagerOptions(preservation_policy=policy, cleanup_tmp_directories=True),
        )

    def save(self, state: TrainState, metrics: dict[str, float] | None = None) -> None:
        """Start to write the state; training goes on meanwhile. A step that is there already is left alone.

        Args:
            state: of the step that it holds.
            metrics: scores at this step; their "psnr" decides which checkpoint is the best.

        Raises:
            CheckpointError: this one or the one before could not be written, as on a full disk, or there is one of a
                later step.
        """
        arrays = to_host(state)
        step = int(arrays.step)
        if step in self.manager.all_steps():
            return
        meta = {"config": to_dict(self.config), "crc32": _digest(arrays), "step": step, "metrics": metrics or {}}
        items = self.ocp.args.Composite(state=self.ocp.args.StandardSave(arrays), meta=self.ocp.args.JsonSave(meta))
        if metrics:
            self.best.psnr[step] = metrics["psnr"]
        with self._writing():
            written = self.manager.save(step, args=items)
        if not written:
            raise CheckpointError(
                f"the checkpoint of step {step} was not written to {self.folder}, which holds that of step "
                f"{self.manager.latest_step()}; remove that one, or use another --workdir"
            )

    def restore(self, blank: TrainState) -> TrainState | None:
        """The newest checkpoint that is whole, as NumPy arrays, or None if there is none.

        Newer ones, which are damaged, are moved to `WORKDIR/damaged`.

        Args:
            blank: a state of the wanted structure.

        Raises:
            CheckpointError: the checkpoint belongs to another experiment, none of those there can be read, or the
                processes cannot read the same one.
        """
        steps = sorted(self.manager.all_steps(), reverse=True)
        failures = []
        for step in steps:
            try:
                meta = self._read(step, meta=self.ocp.args.JsonRestore())
                old = from_dict(ExperimentConfig, meta["config"])
            except Exception as error:
                failures.append(self._damaged(step, error))
                continue
            changed = incompatible(old, self.config)
            if changed:
                raise CheckpointError(
                    f"{self.folder} belongs to another experiment: {'; '.join(changed)}. "
                    "Use another --workdir, or the config that the workdir was started with"
                )
            try:
                target = jax.tree.map(np.asarray, to_host(blank))
                arrays = self._read(step, state=self.ocp.args.StandardRestore(target))
                if _digest(arrays) != meta["crc32"]:
                    raise ValueError("its checksum differs")
            except Exception as error:
                failures.append(self._damaged(step, error))
                continue
            self._go_on_from(step)
            return arrays
        if failures:
            raise CheckpointError(
                f"no checkpoint in {self.folder} can be read ({'; '.join(failures)}); "
                "start afresh in another --workdir, or pass the weights with --config.train.init_weights"
            )
        return None

    def _go_on_from(self, step: int) -> None:
        """Put damaged checkpoints after `step` aside, as Orbax writes none before them; take up the others' scores."""
        steps = processes.gather(step)
        if set(steps) != {step}:
            raise CheckpointError(
                f"the newest checkpoints of {self.folder} that can be read are those of steps "
                f"{', '.join(map(str, steps))} in processes 0 to {len(steps) - 1}; see that all see the same files"
            )
        damaged = [other for other in self.manager.all_steps() if other > step]
        if damaged:
            if processes.index() == 0:
                self._put_aside(damaged)
            processes.gather("moved")  # the others wait
            self.manager.reload()
        for other in self.manager.all_steps():
            with contextlib.suppress(Exception):  # one that was not scored, or is damaged but not needed now
                meta = self._read(other, meta=self.ocp.args.JsonRestore())
                if scored_alike(from_dict(ExperimentConfig, meta["config"]), self.config):
                    self.best.psnr[other] = meta["metrics"]["psnr"]

    def _put_aside(self, steps: Sequence[int]) -> None:
        """Move checkpoints out of Orbax's sight; what they hold may still be of use to somebody."""
        aside = self.folder.parent / "damaged"
        aside.mkdir(parents=True, exist_ok=True)
        for step in steps:
            target = aside / f"{step}-{time.strftime('%Y%m%d-%H%M%S')}"
            logging.warning("step %d in %s is moved to %s", step, self.folder, target)
            (self.folder / str(step)).rename(target)

    def _read(self, step: int, **item: Any) -> Any:
        (name,) = item
        return self.manager.restore(step, args=self.ocp.args.Composite(**item))[name]

    def _damaged(self, step: int, error: Exception) -> str:
        reason = f"step {step} is damaged: {str(error).splitlines()[0][:200] if str(error) else type(error).__name__}"
        logging.warning("%s in %s; trying the one before", reason, self.folder)
        return reason

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        elif processes.count() == 1:  # of several the others, who may be gone, would be waited for
            with contextlib.suppress(Exception):  # the error that is being raised says more
                self.close()

    def wait(self) -> None:
        """Return once everything is written; errors as for `save`."""
        with self._writing():
            self.manager.wait_until_finished()

    def close(self) -> None:
        """Wait, and release the threads; errors as for `save`."""
        with self._writing():
            self.manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Names what went wrong and what is left; Orbax and TensorStore raise errors of many types."""
        try:
            yield
        except Exception as error:
            if processes.loss_of_process(error):
                raise
            self.manager.reload()  # forgets one that could not be written
            newest = self.manager.latest_step()
            left = "there is no older one" if newest is None else f"older ones are intact, the newest is step {newest}"
            raise CheckpointError(
                f"a checkpoint could not be written to {self.folder}: {_reason(error)}; {left}. Free some space if the "
                "disk is full, and run the same command again"
            ) from error
