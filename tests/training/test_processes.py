"""Several processes on one machine train as one process with as many devices does, and resume each other's runs."""

import json
import re
import signal

import numpy as np
import pytest

from multifocal_jax import processes
from tests.launch import finish, read_until, start
from tests.training.helpers import parameters, with_train, write_config


def run(config, folder, processes, devices, slurm=False):
    """Train in so many processes of so many devices each; returns the losses and the final parameters."""
    file = write_config(config, folder)
    finish(start("train.py", ["--config", file, "--workdir", folder / "run"], processes, devices, slurm=slurm))
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    return losses, parameters(folder / "run")


@pytest.mark.parametrize(("way", "slurm"), [("pmap", False), ("shard_map", True)])
def test_two_processes_train_as_one_and_one_resumes_what_two_began(tiny, tmp_path, way, slurm):
    config = with_train(tiny, precision="float64", parallel=way)
    losses, params = run(config, tmp_path / "one", processes=1, devices=4)
    two_losses, _ = run(with_train(config, steps=4), tmp_path / "two", processes=2, devices=2, slurm=slurm)
    np.testing.assert_allclose(two_losses, losses[:2], rtol=1e-12)
    _, resumed = run(config, tmp_path / "two", processes=1, devices=2)
    for a, b in zip(resumed, params, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize(
    ("task", "gpus"),
    [
        ({}, None),
        ({"SLURM_STEP_TASKS_PER_NODE": "1(x4)", "SLURM_GPUS_ON_NODE": "8"}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"SLURM_STEP_TASKS_PER_NODE": "1", "SLURM_GPUS_ON_NODE": "8", "CUDA_VISIBLE_DEVICES": "4,6"}, [0, 1]),
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x4)", "SLURM_GPUS_ON_NODE": "8"}, None),
        ({"SLURM_STEP_TASKS_PER_NODE": "1(x2),2", "SLURM_GPUS_ON_NODE": "8"}, None),
        ({"SLURM_STEP_TASKS_PER_NODE": "1", "SLURM_GPUS_ON_NODE": "8", "JAX_LOCAL_DEVICE_IDS": "3"}, None),
        ({"SLURM_STEP_TASKS_PER_NODE": "1"}, None),
    ],
)
def test_the_only_slurm_task_of_a_machine_takes_all_gpus(task, gpus, monkeypatch):
    for name in ("SLURM_STEP_TASKS_PER_NODE", "SLURM_GPUS_ON_NODE", "CUDA_VISIBLE_DEVICES", "JAX_LOCAL_DEVICE_IDS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in task.items():
        monkeypatch.setenv(name, value)
    assert processes.local_gpus() == gpus


def test_a_signal_to_one_of_two_processes_saves_and_ends_both_at_one_step(tiny, tmp_path):
    file = write_config(with_train(tiny, steps=10**6, log_every=5, checkpoint_every=10**6), tmp_path)
    both = start("train.py", ["--config", file, "--workdir", tmp_path / "run"], processes=2)
    read_until(both[0], "step 10/")
    both[1].send_signal(signal.SIGINT)  # Ctrl-C; it becomes SIGTERM, which JAX tells all processes of
    errors = [process.communicate(timeout=300)[1].splitlines() for process in both]
    assert [process.returncode for process in both] == [143, 130], errors
    *_, figures, last = errors[0]
    stopped = re.fullmatch(r"stopped by a signal at step (\d+), saved; the same command resumes from here", last)
    assert stopped is not None, errors
    assert figures.startswith(f"step {stopped[1]}/")
    assert errors[1][-1] == "Ctrl-C: saving after the step under way; a second one ends at once"
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == [stopped[1]]
    assert not [line for lines in errors for line in lines if "error" in line or "preemption" in line]
