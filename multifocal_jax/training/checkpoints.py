"""Checkpoints: asynchronous, atomic, sufficient to resume exactly, and verified when read."""

import contextlib
import errno
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from orbax.checkpoint import checkpoint_managers as managers

from multifocal_jax import processes
from multifocal_jax.config import ConfigError, ExperimentConfig
from multifocal_jax.config_files import changed_fields, from_dict, to_dict
from multifocal_jax.errors import UserError
from multifocal_jax.paths import as_absolute
from multifocal_jax.training.parallel import to_host
from multifocal_jax.training.state import TrainState

# Fields that may change when a run is resumed, as they do not change what is computed.
_LENGTH = ("train.epochs", "train.steps")
_OF_DATA = ("root", "test", "mode", "memory_limit", "workers", "on_broken")
_OF_OUTPUT = ("log_every", "eval_every", "eval_limit", "image_every", "checkpoint_every", "keep", "tensorboard")
_OF_TRAINING = ("parallel", "accumulate", "init_weights", *_OF_OUTPUT)
HARMLESS = ("name", *(f"data.{name}" for name in _OF_DATA), *(f"train.{name}" for name in _OF_TRAINING), "eval.")
# Fields on which the scores of the held-out pictures depend; scores that differ in them are not compared.
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
    """The folder of a workdir's checkpoints."""
    return epath.Path(workdir) / "checkpoints"


def incompatible(old: ExperimentConfig, new: ExperimentConfig) -> list[str]:
    """The differences between two configs that prevent resuming one with the other, a line each."""
    # the shape of a cosine depends on the length of the run
    harmless = HARMLESS if new.train.schedule == "cosine" else HARMLESS + _LENGTH
    return [str(change) for change in changed_fields(old, new) if not change.name.startswith(harmless)]


def scored_alike(old: ExperimentConfig, new: ExperimentConfig) -> bool:
    """Whether scores of the held-out pictures are comparable between two configs."""
    return not any(change.name in SCORING for change in changed_fields(old, new))


def _digest(arrays: Any) -> int:
    """CRC-32 over all leaves in order, so that damage inside a file is detected."""
    checksum = 0
    for leaf in jax.tree.leaves(arrays):
        checksum = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), checksum)
    return checksum


def _reason(error: Exception) -> str:
    """The system's message within an error, if there is one: TensorStore's fill pages and give the cause last."""
    text = " ".join(str(error).split()).partition(" [tensorstore_spec=")[0] or type(error).__name__
    known = (os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO))
    return next((words for words in known if words in text), text if len(text) <= 200 else f"…{text[-200:]}")


class _Best:
    """Orbax policy that keeps the best checkpoint, the newest of equals, by the scores stored in the checkpoints.

    Orbax's own `BestN` forgets them at a restart unless `best_fn` is set; then it stores them in separate files, and
    fails to open a folder in which one of these is damaged.
    """

    def __init__(self) -> None:
        self.psnr: dict[int, float] = {}  # by step, of those that were scored

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        scored = [info.step for info in checkpoints if info.step in self.psnr]
        best = max(scored, key=lambda step: (self.psnr[step], step), default=None)
        return [info.step == best for info in checkpoints]


class Checkpoints:
    """The checkpoints of one workdir: the newest `keep` and the best.

    They store the state as NumPy arrays, so that a run can be resumed with another number of devices or processes.
    """

    def __init__(self, workdir: epath.PathLike, config: ExperimentConfig, pictures: Sequence[int] = ()) -> None:
        """Open `workdir/checkpoints`, creating it if necessary.

        `pictures` are the numbers of pictures of the sources: with others a resumed run would hold out other ones.
        """
        self.config, self.folder, self.best, self.pictures = config, folder_of(workdir), _Best(), list(pictures)
        policy = managers.AnyPreservationPolicy([managers.LatestN(n=config.train.keep), self.best])
        self.manager = ocp.CheckpointManager(
            as_absolute(self.folder),
            item_names=("state", "meta"),
            options=ocp.CheckpointManagerOptions(preservation_policy=policy, cleanup_tmp_directories=True),
        )

    def save(self, state: TrainState, metrics: dict[str, float] | None = None) -> None:
        """Start writing the state while training continues. An existing step is kept.

        Args:
            state: the state, which includes its step.
            metrics: scores at this step; their "psnr" determines the best checkpoint.

        Raises:
            CheckpointError: this checkpoint or the previous one could not be written, for example on a full disk, or
                there is one of a later step.
        """
        arrays = to_host(state)
        step = int(arrays.step)
        if step in self.manager.all_steps():
            return
        meta = {
            "config": to_dict(self.config),
            "pictures": self.pictures,
            "crc32": _digest(arrays),
            "step": step,
            "metrics": metrics or {},
        }
        items = ocp.args.Composite(state=ocp.args.StandardSave(arrays), meta=ocp.args.JsonSave(meta))
        if metrics:
            self.best.psnr[step] = metrics["psnr"]
        with self._writing():
            written = self.manager.save(step, args=items)
        if not written:
            raise CheckpointError(
                f"the checkpoint of step {step} was not written to {self.folder}, which holds that of step "
                f"{self.manager.latest_step()}; remove that one, or use another workdir"
            )

    def restore(self, blank: TrainState) -> TrainState | None:
        """Load the newest intact checkpoint as NumPy arrays, or None if there is none.

        Newer, damaged ones are moved to `WORKDIR/damaged`.

        Args:
            blank: a state with the expected structure.

        Raises:
            CheckpointError: the checkpoint belongs to another experiment, other pictures or another version, none can
                be read, or the processes cannot read the same one.
        """
        failures = []
        for step in sorted(self.manager.all_steps(), reverse=True):
            try:
                meta = self._read(step, meta=ocp.args.JsonRestore())
                if changed := incompatible(from_dict(ExperimentConfig, meta["config"]), self.config):
                    raise CheckpointError(
                        f"{self.folder} belongs to another experiment: {'; '.join(changed)}. "
                        "Use another workdir, or the config that this one was started with"
                    )
                self._check_pictures(meta.get("pictures", []))
                target = jax.tree.map(np.asarray, to_host(blank))
                arrays = self._read(step, state=ocp.args.StandardRestore(target))
                if _digest(arrays) != meta["crc32"]:
                    raise ValueError("its checksum differs")
            except CheckpointError:
                raise
            except ConfigError as error:
                raise CheckpointError(
                    f"step {step} in {self.folder} was written by another version of this package: {error}; "
                    "resume with that version, or use another workdir"
                ) from None
            except Exception as error:
                failures.append(self._damaged(step, error))
                continue
            self._go_on_from(step)
            return arrays
        if failures:
            raise CheckpointError(
                f"no checkpoint in {self.folder} can be read ({'; '.join(failures)}); "
                "start afresh in another workdir, or from weights given as train.init_weights"
            )
        return None

    def _check_pictures(self, before: Sequence[int]) -> None:
        for number, (old, new) in enumerate(zip(before, self.pictures, strict=False)):
            if old != new:
                source = self.config.data.train[number]
                raise CheckpointError(
                    f"{self.folder} was trained on {old} pictures of data.train.{number} ({source.dataset}), where now "
                    f"there are {new}; others would be held out, some of which were trained on. Bring the pictures "
                    "back (data.on_broken='skip' leaves out damaged ones), or use another workdir"
                )

    def _go_on_from(self, step: int) -> None:
        """Move damaged checkpoints after `step` away, as Orbax writes none before them; load the others' scores."""
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
                meta = self._read(other, meta=ocp.args.JsonRestore())
                if scored_alike(from_dict(ExperimentConfig, meta["config"]), self.config):
                    self.best.psnr[other] = meta["metrics"]["psnr"]

    def _put_aside(self, steps: Sequence[int]) -> None:
        """Move checkpoints out of Orbax's sight rather than delete them; they may still be of use."""
        aside = self.folder.parent / "damaged"
        aside.mkdir(parents=True, exist_ok=True)
        for step in steps:
            target = aside / f"{step}-{time.strftime('%Y%m%d-%H%M%S')}"
            logging.warning("step %d in %s is moved to %s", step, self.folder, target)
            (self.folder / str(step)).rename(target)

    def _read(self, step: int, **item: Any) -> Any:
        (name,) = item
        return self.manager.restore(step, args=ocp.args.Composite(**item))[name]

    def _damaged(self, step: int, error: Exception) -> str:
        reason = f"step {step} is damaged: {str(error).splitlines()[0][:200] if str(error) else type(error).__name__}"
        logging.warning("%s in %s; trying the one before", reason, self.folder)
        return reason

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            self.close()
        elif processes.count() == 1:  # of several the others, who may be gone, would be waited for
            with contextlib.suppress(Exception):  # the error that is being raised says more
                self.close()

    def wait(self) -> None:
        """Wait until everything is written; errors as for `save`."""
        with self._writing():
            self.manager.wait_until_finished()

    def close(self) -> None:
        """Wait, and release the threads; errors as for `save`."""
        with self._writing():
            self.manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Say what went wrong and what is intact; Orbax and TensorStore raise errors of many types."""
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
