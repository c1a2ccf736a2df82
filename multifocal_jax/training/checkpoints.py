"""Checkpoints: asynchronous, atomic, complete enough to go on exactly, and checked when they are read."""

import zlib
from typing import Any

import jax
import numpy as np
from absl import logging
from etils import epath

from multifocal_jax.config import ExperimentConfig
from multifocal_jax.config_files import differences, from_dict, to_dict
from multifocal_jax.errors import UserError
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


class CheckpointError(UserError):
    """A workdir's checkpoints cannot be used. The message names the workdir, what is wrong and the way out."""


def incompatible(old: ExperimentConfig, new: ExperimentConfig) -> list[str]:
    """The differences between two configs that forbid to continue one with the other, a line each."""
    harmless = HARMLESS
    if new.train.schedule == "cosine":  # its shape depends on the length of the run
        harmless = tuple(name for name in harmless if name not in ("train.epochs", "train.steps"))
    return [line for line in differences(old, new) if not line.startswith(harmless)]


def _digest(arrays: Any) -> int:
    """CRC-32 over all leaves in order, so that damage inside a file is noticed."""
    checksum = 0
    for leaf in jax.tree.leaves(arrays):
        checksum = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), checksum)
    return checksum


class Checkpoints:
    """The checkpoints of one workdir: the newest `keep` and the best.

    They hold the state as NumPy arrays, so that a run can go on with another number of devices or processes.
    """

    def __init__(self, workdir: epath.PathLike, config: ExperimentConfig) -> None:
        """Open `workdir/checkpoints`, creating it if need be."""
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers

        self.ocp, self.config = ocp, config
        self.folder = epath.Path(workdir) / "checkpoints"
        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(n=config.train.keep),
                checkpoint_managers.BestN(
                    get_metric_fn=lambda metrics: metrics["psnr"], n=1, keep_checkpoints_without_metrics=False
                ),
            ]
        )
        self.manager = ocp.CheckpointManager(
            epath.Path(self.folder).resolve(),
            item_names=("state", "meta"),
            options=ocp.CheckpointManagerOptions(preservation_policy=policy, cleanup_tmp_directories=True),
        )

    def save(self, state: TrainState, metrics: dict[str, float] | None = None) -> None:
        """Start to write the state; training goes on meanwhile. A step that is there already is left alone.

        Args:
            state: of the step that it holds.
            metrics: scores at this step; their "psnr" decides which checkpoint is the best.
        """
        arrays = to_host(state)
        step = int(arrays.step)
        if step in self.manager.all_steps():
            return
        meta = {"config": to_dict(self.config), "crc32": _digest(arrays), "step": step, "metrics": metrics or {}}
        self.manager.save(
            step,
            args=self.ocp.args.Composite(state=self.ocp.args.StandardSave(arrays), meta=self.ocp.args.JsonSave(meta)),
            metrics=metrics,
        )

    def restore(self, blank: TrainState) -> TrainState | None:
        """The newest checkpoint that is whole, as NumPy arrays, or None if there is none.

        Args:
            blank: a state of the wanted structure.

        Raises:
            CheckpointError: the checkpoint belongs to another experiment, or none of those there can be read.
        """
        steps = sorted(self.manager.all_steps(), reverse=True)
        failures = []
        for step in steps:
            try:
                meta = self.manager.restore(step, args=self.ocp.args.Composite(meta=self.ocp.args.JsonRestore()))[
                    "meta"
                ]
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
            return arrays
        if failures:
            raise CheckpointError(
                f"no checkpoint in {self.folder} can be read ({'; '.join(failures)}); "
                "start afresh in another --workdir, or pass the weights with --config.train.init_weights"
            )
        return None

    def _read(self, step: int, **item: Any) -> Any:
        (name,) = item
        return self.manager.restore(step, args=self.ocp.args.Composite(**item))[name]

    def _damaged(self, step: int, error: Exception) -> str:
        reason = f"step {step} is damaged: {str(error).splitlines()[0][:200] if str(error) else type(error).__name__}"
        logging.warning("%s in %s; trying the one before", reason, self.folder)
        return reason

    def newest(self) -> int | None:
        """Step of the newest finished checkpoint."""
        return self.manager.latest_step()

    def wait(self) -> None:
        """Return once everything is written."""
        self.manager.wait_until_finished()

    def close(self) -> None:
        """Wait, and release the threads."""
        self.manager.close()
