"""Several processes on one machine train as one process with as many devices does, and resume each other's runs."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import with_train

from multifocal_jax.config_files import to_dict
from multifocal_jax.weights import load_weights

ROOT = Path(__file__).parents[2]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def write_config(config, folder):
    """A config file with every field of `config`."""
    folder.mkdir(exist_ok=True)
    (folder / "fields.json").write_text(json.dumps(to_dict(config)))
    (folder / "config.py").write_text(
        "import json\nfrom pathlib import Path\n"
        "from multifocal_jax.config import ExperimentConfig\nfrom multifocal_jax.config_files import from_dict\n"
        "def get_config():\n"
        "    return from_dict(ExperimentConfig, json.loads(Path(__file__).with_name('fields.json').read_text()))\n"
    )
    return folder / "config.py"


def parameters(workdir):
    """The parameters that a run ended with, as a list of arrays."""
    return jax.tree.leaves(load_weights(workdir / "weights.safetensors").params)


def run(config, folder, processes, devices):
    """Train in so many processes of so many devices each; returns the losses and the final parameters."""
    file = write_config(config, folder)
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, str(ROOT / "train.py"), "--config", str(file)]
    command += ["--workdir", str(folder / "run")]
    port = free_port()
    started = []
    for index in range(processes):
        several = [f"--coordinator=127.0.0.1:{port}", f"--process-count={processes}", f"--process-id={index}"]
        started.append(
            subprocess.Popen(
                command + (several if processes > 1 else []),
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    for process in started:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    return losses, parameters(folder / "run")


@pytest.mark.parametrize("way", ["pmap", "shard_map"])
def test_two_processes_train_as_one_and_one_resumes_what_two_began(tiny, tmp_path, way):
    config = with_train(tiny, precision="float64", parallel=way)
    losses, params = run(config, tmp_path / "one", processes=1, devices=4)
    two_losses, _ = run(with_train(config, steps=4), tmp_path / "two", processes=2, devices=2)
    np.testing.assert_allclose(two_losses, losses[:2], rtol=1e-12)
    _, resumed = run(config, tmp_path / "two", processes=1, devices=2)
    for a, b in zip(resumed, params, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
