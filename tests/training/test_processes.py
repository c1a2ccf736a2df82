"""Several processes on one machine train as one process with as many devices does, and resume each other's runs."""

import re
import signal

import numpy as np
import pytest

from multifocal_jax import processes
from multifocal_jax.training.loop import train
from tests.launch import finish, read_until, start
from tests.training.helpers import assert_equal_weights, logged, with_train, write_config

pytestmark = pytest.mark.usefixtures("unoptimised")


def losses(workdir):
    return [line["loss"] for line in logged(workdir) if "loss" in line]


@pytest.fixture(scope="module")
def alone(tiny, tmp_path_factory):
    """The workdir of this process, with eight devices."""
    workdir = tmp_path_factory.mktemp("alone")
    train(with_train(tiny, precision="float64"), workdir, quiet=True)
    return workdir


@pytest.mark.parametrize(("way", "slurm"), [("pmap", False), ("shard_map", True)])
def test_two_processes_train_as_one_and_one_resumes_what_two_began(tiny, alone, tmp_path, way, slurm):
    config, workdir = with_train(tiny, precision="float64"), tmp_path / "run"
    file = write_config(with_train(config, steps=4, parallel=way), tmp_path)
    finish(start("train.py", ["--config", file, "--workdir", workdir], processes=2, devices=4, slurm=slurm))
    np.testing.assert_allclose(losses(workdir), losses(alone)[:2], rtol=1e-12)
    train(config, workdir, quiet=True)
    assert_equal_weights(workdir, alone, atol=1e-12)


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
