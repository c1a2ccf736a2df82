"""Configs with fields changed or written to a file, and what a run ended with."""

import dataclasses
import json

import jax
import numpy as np

from multifocal_jax.config_files import to_dict
from multifocal_jax.weights import load_weights


def with_fields(config, **groups):
    """The config with other fields: `with_fields(config, model={"heads": 4})`."""
    changed = {name: dataclasses.replace(getattr(config, name), **fields) for name, fields in groups.items()}
    return dataclasses.replace(config, **changed)


def with_train(config, **changes):
    """The config with other training fields."""
    return with_fields(config, train=changes)


def write_config(config, folder):
    """A config file with every field of `config`."""
    folder.mkdir(exist_ok=True)
    file = folder / "config.json"
    file.write_text(json.dumps(to_dict(config)))
    return file


def logged(workdir):
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def parameters(workdir):
    """The parameters that a run ended with, as a list of arrays."""
    return jax.tree.leaves(load_weights(workdir / "weights.safetensors").params)


def assert_equal_weights(workdir, other, **tolerance):
    """Two runs ended with the same parameters, bit for bit if no tolerance is given."""
    for ours, theirs in zip(parameters(workdir), parameters(other), strict=True):
        np.testing.assert_allclose(ours, theirs, **({"rtol": 0, "atol": 0} | tolerance))
