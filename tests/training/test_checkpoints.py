"""Which checkpoints are kept, over restarts and beside damaged ones."""

import dataclasses

import numpy as np
import pytest

from multifocal_jax import processes
from multifocal_jax.config import EvalConfig, ExperimentConfig, TrainConfig
from multifocal_jax.config_files import to_dict
from multifocal_jax.training.checkpoints import CheckpointError, Checkpoints
from multifocal_jax.training.state import TrainState

CONFIG = ExperimentConfig(train=TrainConfig(keep=1))
DOUBLE = dataclasses.replace(CONFIG, eval=EvalConfig(family="double"))


def state(step):
    return TrainState(np.int32(step), {"w": np.full(4, step, np.float32)}, (), None)  # pyright: ignore


def save(workdir, scores, config=CONFIG):
    """Open, restore, save a state for every step with its PSNR (None without), and close; returns the restored step."""
    checkpoints = Checkpoints(workdir, config)
    restored = checkpoints.restore(state(0))
    for step, psnr in scores.items():
        checkpoints.save(state(step), None if psnr is None else {"psnr": psnr})
    checkpoints.close()
    return None if restored is None else int(restored.step)


def steps(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def damage(workdir, step, what="state/d/*"):
    files = list((workdir / "checkpoints" / str(step)).glob(what))
    assert files
    for file in files:
        file.write_bytes(b"\0" * 10)


def test_the_best_outlives_restarts(tmp_path):
    save(tmp_path, {10: 30.0, 20: 25.0, 30: None})
    assert steps(tmp_path) == [10, 30]
    assert save(tmp_path, {40: 21.0}) == 30
    assert steps(tmp_path) == [10, 40]
    assert save(tmp_path, {50: 31.0, 60: 31.0, 70: None}) == 40
    assert steps(tmp_path) == [60, 70]


def test_scores_of_another_kind_are_not_compared(tmp_path):
    save(tmp_path, {10: 30.0, 20: None})
    save(tmp_path, {30: 21.0, 40: None}, DOUBLE)
    assert steps(tmp_path) == [30, 40]


def test_a_damaged_score_keeps_no_other_from_being_read(tmp_path):
    save(tmp_path, {10: 30.0, 20: None})
    damage(tmp_path, 10, "meta/*")
    assert save(tmp_path, {30: 21.0}) == 20
    assert steps(tmp_path) == [30]


# A failed read leaves Orbax's coroutines unfinished; Python reports them when they are collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("what", ["state/d/*", "meta/*"])
def test_damaged_newer_checkpoints_make_room(tmp_path, what):
    config = dataclasses.replace(CONFIG, train=TrainConfig(keep=5))
    save(tmp_path, dict.fromkeys((10, 20, 30)), config)
    for step in (20, 30):
        damage(tmp_path, step, what)
    assert save(tmp_path, {15: None, 20: None}, config) == 10
    assert steps(tmp_path) == [10, 15, 20]
    assert sorted(path.name.split("-")[0] for path in (tmp_path / "damaged").iterdir()) == ["20", "30"]
    assert save(tmp_path, {}, config) == 20


def test_a_checkpoint_of_another_version_is_not_called_damaged(tmp_path, monkeypatch):
    with monkeypatch.context() as later:
        later.setattr("multifocal_jax.training.checkpoints.to_dict", lambda config: to_dict(config) | {"later": 1})
        save(tmp_path, {10: None})
    with pytest.raises(CheckpointError, match=r"step 10 in .* was written by another version .*: unknown fields later"):
        save(tmp_path, {})
    assert steps(tmp_path) == [10]


def test_a_checkpoint_that_orbax_refuses_is_an_error(tmp_path):
    save(tmp_path, {20: None})
    with pytest.raises(CheckpointError, match=r"step 10 was not written to .*, which holds that of step 20; remove"):
        save(tmp_path, {10: None})


def test_processes_that_read_different_checkpoints_do_not_go_on(tmp_path, monkeypatch):
    save(tmp_path, {20: None})
    monkeypatch.setattr(processes, "gather", lambda step: [30, step])
    with pytest.raises(CheckpointError, match=r"can be read are those of steps 30, 20 in processes 0 to 1"):
        save(tmp_path, {})
    assert steps(tmp_path) == [20]
