import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from multifocal_jax.config import ModelConfig
from multifocal_jax.weights import (
    Weights,
    WeightsError,
    describe_weights,
    flatten,
    load_weights,
    save_weights,
    unflatten,
)

PARAMS = {"fusion": {"merge": {"bias": np.arange(3, dtype=np.float32), "kernel": np.ones((1, 1, 2, 3), np.float32)}}}


def test_names_are_dotted_paths():
    assert list(flatten(PARAMS)) == ["fusion.merge.bias", "fusion.merge.kernel"]
    np.testing.assert_equal(unflatten(flatten(PARAMS)), PARAMS)


def test_file_holds_parameters_architecture_and_record(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, Weights(PARAMS, ModelConfig(modules=3), {"steps": 7}))
    loaded = load_weights(path)
    np.testing.assert_equal(loaded.params, PARAMS)
    assert loaded.model == ModelConfig(modules=3)
    assert loaded.record == {"steps": 7}
    with safe_open(path, framework="numpy") as file:  # as any other reader of the format sees it
        assert json.loads(file.metadata()["model"])["modules"] == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.safetensors"]
    save_weights(path, loaded, dtype="float16")
    assert load_weights(path).params["fusion"]["merge"]["bias"].dtype == np.float32


def test_values_that_lie_in_memory_in_another_order_are_kept(tmp_path):
    kernel, path = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4), tmp_path / "w.safetensors"
    for lying in (kernel[:, :, [2, 0, 1]], kernel.transpose(3, 2, 1, 0)):
        save_weights(path, Weights({"kernel": lying}, ModelConfig(), {}))
        np.testing.assert_array_equal(load_weights(path).params["kernel"], lying)


def test_files_that_cannot_be_used(tmp_path):
    with pytest.raises(WeightsError, match=r"none\.safetensors does not exist"):
        load_weights(tmp_path / "none.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(b"123456789")
    with pytest.raises(WeightsError, match="is not a readable"):
        load_weights(tmp_path / "damaged.safetensors")
    save_file({"x": np.ones(2, np.float32)}, tmp_path / "foreign.safetensors")
    with pytest.raises(WeightsError, match=r"does not say which architecture.*multifocal convert"):
        load_weights(tmp_path / "foreign.safetensors")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("net.pth", b"damaged"),
        ("net.pt", b""),
        ("net.ckpt", b"PK\x03\x04" + 40 * b"\0"),
        ("net", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."),
    ],
)
def test_pytorch_files_are_answered_with_the_command_that_converts_them(name, content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content)
    for read in (load_weights, describe_weights):
        with pytest.raises(WeightsError, match=rf"multifocal convert {name} net\.safetensors$"):
            read(name)


@pytest.mark.parametrize("model", ["resnet50", "[1]", "3", '{"width": 64}', '{"channels": 30}'])
def test_another_projects_metadata_are_one_line(tmp_path, model):
    path = tmp_path / "other.safetensors"
    save_file({"x": np.ones(2, np.float32)}, path, metadata={"model": model})
    for read in (load_weights, describe_weights):
        with pytest.raises(WeightsError, match=r"other\.safetensors holds another network, or one of a later version"):
            read(path)


@pytest.mark.parametrize(
    "content", [b"This is no weights file but a text.", b"\xff" * 40, (3).to_bytes(8, "little") + b"[1]"]
)
def test_heads_of_files_of_another_kind_are_one_line(tmp_path, content):
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(WeightsError, match="text is not a readable"):
        describe_weights(tmp_path / "text")
