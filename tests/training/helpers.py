"""Configs with a field changed or written to a file, and what a run ended with."""

import dataclasses
import json

import jax

from multifocal_jax.config_files import to_dict
from multifocal_jax.weights import load_weights


def with_train(config, **changes):
    """The config with other training fields."""
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **changes))


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
