"""Training end to end on a small folder: files, resuming, stopping, errors."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import with_train
from test_processes import write_config

from multifocal_jax.errors import UserError
from multifocal_jax.training.checkpoints import CheckpointError
from multifocal_jax.training.loop import TrainingError, train
from multifocal_jax.weights import load_weights

ROOT = Path(__file__).parents[2]


def parameters(result):
    return jax.tree.leaves(load_weights(result.weights).params)


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_run_writes_what_it_promises(tiny, tmp_path):
    config = dataclasses.replace(
        with_train(tiny, steps=60, log_every=10, checkpoint_every=30, learning_rate=3e-3),
        data=dataclasses.replace(tiny.data, held_out=2),
    )
    result = train(config, tmp_path, quiet=True)
    assert result.finished
    assert result.step == 60
    logged = lines(tmp_path)
    losses = [line["loss"] for line in logged if "loss" in line]
    assert losses[-1] < losses[0]
    assert {"learning_rate", "gradient_norm", "parameter_norm", "update_norm", "images_per_second"} <= set(logged[0])
    assert 0 <= logged[0]["waiting_for_data"] <= 1
    assert logged[-1]["held_out_psnr"] == pytest.approx(result.scores["psnr"])
    assert json.loads((tmp_path / "config.json").read_text())["model"]["channels"] == 4
    assert len(list((tmp_path / "images").iterdir())) == 2
    weights = load_weights(tmp_path / "weights.safetensors")
    assert weights.model == config.model
    assert weights.record["step"] == 60
    assert weights.record["held_out"]["psnr"] == pytest.approx(result.scores["psnr"])


# A failed read leaves Orbax's coroutines unfinished; Python reports them when they are collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_resumed_run_is_bit_identical_to_an_uninterrupted_one(tiny, tmp_path):
    whole = train(tiny, tmp_path / "whole", quiet=True)
    train(with_train(tiny, steps=4), tmp_path / "parts", quiet=True)
    resumed = train(tiny, tmp_path / "parts", quiet=True)
    assert resumed.step == 8
    for a, b in zip(parameters(whole), parameters(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    # a damaged newest checkpoint: the one before is used, and the run ends the same
    newest = tmp_path / "parts" / "checkpoints" / "8"
    for file in newest.rglob("d/*"):
        file.write_bytes(b"\0" * 10)
    again = train(tiny, tmp_path / "parts", quiet=True)
    assert again.step == 8
    for a, b in zip(parameters(whole), parameters(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_experiment_is_refused_with_the_differences(tiny, tmp_path):
    train(with_train(tiny, steps=2), tmp_path, quiet=True)
    with pytest.raises(CheckpointError, match=r"another experiment: train\.batch_size: 8 -> 16"):
        train(with_train(tiny, batch_size=16), tmp_path, quiet=True)
    with pytest.raises(CheckpointError, match=r"model\.heads: 2 -> 4"):
        train(dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, heads=4)), tmp_path, quiet=True)
    harmless = with_train(tiny, steps=3, log_every=1, keep=1)
    assert train(harmless, tmp_path, quiet=True).step == 3


def test_loss_that_is_not_finite_stops_the_run_and_names_step_and_checkpoint(tiny, tmp_path):
    config = with_train(tiny, learning_rate=1e30, log_every=1, checkpoint_every=1)
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step 2; the last good checkpoint is step 1"):
        train(config, tmp_path, quiet=True)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["1"]


def test_start_from_given_weights(tiny, tmp_path):
    first = train(with_train(tiny, steps=2), tmp_path / "first", quiet=True)
    config = with_train(tiny, steps=1, learning_rate=1e-12, init_weights=str(first.weights))
    second = train(config, tmp_path / "second", quiet=True)
    for a, b in zip(parameters(first), parameters(second), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)
    other = dataclasses.replace(config, model=dataclasses.replace(config.model, channels=8))
    with pytest.raises(UserError, match="another architecture"):
        train(other, tmp_path / "third", quiet=True)
    of_workdir = train(with_train(config, init_weights=str(tmp_path / "first")), tmp_path / "workdir", quiet=True)
    for a, b in zip(parameters(second), parameters(of_workdir), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(UserError, match=r"neither a file,? nor a workdir"):
        train(with_train(tiny, init_weights=str(tmp_path / "none")), tmp_path / "fourth", quiet=True)


def test_sigterm_saves_and_the_same_command_goes_on(tiny, tmp_path):
    config = write_config(with_train(tiny, steps=100_000, log_every=5), tmp_path)
    command = [sys.executable, str(ROOT / "train.py"), "--config", str(config), "--workdir", str(tmp_path / "run")]
    environment = os.environ | {"XLA_FLAGS": ""}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step 10/"):
                break
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert process.returncode == 143
    assert "saved; the same command goes on from here" in rest
    stopped = int(rest.split("at step ")[1].split(",")[0])
    assert stopped in {int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir()}
    more = subprocess.run(
        [*command, f"--config.train.steps={stopped + 1}"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert f"going on from step {stopped}" in more.stderr
    assert more.returncode == 0
