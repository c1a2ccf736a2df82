"""Thousands of damaged weights files: each is refused by name, or read as what it was."""

import warnings

import numpy as np
import pytest
import torch
from mutants import mutants
from safetensors.torch import save_file

from multifocal_jax.errors import UserError
from multifocal_jax.interop.conversion import read_weights, write_weights
from multifocal_jax.interop.torch_network import TorchNet
from multifocal_jax.weights import flatten
from tests.interop.helpers import TINY

torch.set_num_threads(1)

# Of the last two a flipped bit in a value leaves no trace: there is no checksum.
SEEDS = {"zip.pth": 1, "ours.safetensors": 2, "legacy.pth": 3, "theirs.safetensors": 4}


def _write(name, folder):
    torch.manual_seed(0)
    state = TorchNet(TINY).state_dict()
    path = folder / name
    if name == "theirs.safetensors":
        save_file(state, path)
        return path
    torch.save({"state_dict": state, "epoch": np.int64(3)}, path, _use_new_zipfile_serialization=name != "legacy.pth")
    if name == "ours.safetensors":
        write_weights(path, read_weights(path.rename(folder / "in.pth")).weights)
    return path


@pytest.mark.parametrize("count", [100, pytest.param(2500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SEEDS)
def test_mutants_of_weights_files(name, count, tmp_path):
    path = _write(name, tmp_path)
    right, original = flatten(read_weights(path).weights.params), path.read_bytes()
    refused = read = 0
    for number, mutant in enumerate(mutants(original, count, SEEDS[name])):
        path.write_bytes(mutant)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found = flatten(read_weights(path).weights.params)
        except UserError as error:
            refused += str(path) in str(error)
            continue
        except BaseException as error:
            raise AssertionError(f"mutant {number} of {name}") from error
        read += 1
        if name in ("zip.pth", "ours.safetensors"):
            assert found.keys() == right.keys(), number
            assert all(np.array_equal(found[key], value) for key, value in right.items()), number
    assert refused + read == count
    assert refused > count / 3
