"""What `multifocal convert` does and refuses where PyTorch is not needed, or missing."""

import json
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from multifocal_jax.interop.architecture import are_ours, models_of_shapes
from multifocal_jax.interop.conversion import read_weights, torch_network, write_weights
from multifocal_jax.interop.errors import ConversionError
from multifocal_jax.interop.foreign.renaming import read_names
from multifocal_jax.interop.names import parameters
from multifocal_jax.weights import Weights, WeightsError, flatten, load_weights, save_weights
from tests.interop.helpers import ask, refuse, seeded_params, seeded_tensors, small

WEIGHTS = Weights(seeded_params(small()), small(), {})


def float32_tensors(prefix: str = "") -> dict[str, np.ndarray]:
    return {prefix + name: value.astype(np.float32) for name, value in seeded_tensors(small()).items()}


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def pytorch_file(tensors) -> str:
    """A `.safetensors` with PyTorch's names."""
    save_file(tensors, "in.safetensors")
    return "in.safetensors"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"band_order": "LL,HL,LH,HH"}, "--names and --band-order are for the files of other code: name a .pth"),
        (
            {"names": "names.txt", "key": "model"},
            "--names and --band-order are for the files of other code: name a .pth",
        ),
        ({"key": "model"}, "is a file of this project; leave out --key, for PyTorch"),
        ({"inspect": True, "destination": None}, "is a file of this project; --inspect"),
    ],
)
def test_flags_for_pytorch_checkpoints_are_refused_on_our_own(fields, message):
    save_weights("ours.safetensors", WEIGHTS)
    Path("names.txt").write_text("a = fusion.merge\n")
    refuse(message, "ours.safetensors", **{"destination": "o.safetensors", **fields})


def test_errors_name_arguments_where_no_command_is_used():
    save_weights("ours.safetensors", WEIGHTS)
    with pytest.raises(ConversionError, match="leave out `key`, for PyTorch"):
        read_weights("ours.safetensors", key="model")


def test_bfloat16_is_read():
    tensors = {name: value.astype(ml_dtypes.bfloat16) for name, value in float32_tensors().items()}
    found = flatten(read_weights(pytorch_file(tensors)).weights.params)["fusion.merge.bias"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, tensors["fusion.merge.conv.bias"].astype(np.float32))
    params = {"fusion": {"merge": {"bias": np.array([1.0, 2.5], ml_dtypes.bfloat16)}}}
    save_weights("w.safetensors", Weights(params, small(), {}))
    found = load_weights("w.safetensors").params["fusion"]["merge"]["bias"]
    assert found.dtype == np.float32
    assert found.tolist() == [1.0, 2.5]


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"destination": "o.pth"}, r"writing o\.pth"),
        ({"verify": True}, "--verify"),
        ({"trace": True, "torch_module": "net.py:Net"}, r"--torch-module net\.py:Net"),
        ({"inspect": True, "torch_module": "net.py:Net"}, r"--torch-module net\.py:Net"),
    ],
)
def test_without_pytorch_it_is_said_before_any_work(fields, what, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    refuse(rf"^{what} needs PyTorch: pip install 'multifocal-jax\[torch\]'$", **fields)


def test_without_pytorch_files_and_networks_say_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    Path("in.pth").write_bytes(b"")
    with pytest.raises(ConversionError, match=r"writing o\.pth needs PyTorch"):
        write_weights("o.pth", WEIGHTS)
    with pytest.raises(ConversionError, match="the PyTorch network needs PyTorch"):
        torch_network(WEIGHTS)
    with pytest.raises(ConversionError, match=r"reading in\.pth needs PyTorch: .*, or save it as \.safetensors"):
        read_weights("in.pth")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ""])
def test_values_that_do_not_fit_float16_are_not_written(suffix):
    if suffix == ".pth":
        pytest.importorskip("torch")
    tensors = float32_tensors()
    tensors["fusion.residual.bias"][0] = 65536
    source, out = pytorch_file(tensors), Path(f"out{suffix}")
    with pytest.raises(WeightsError, match=r"not finite as float16 in fusion\.residual\.bias; write"):
        ask(source, destination=str(out), dtype="float16")
    assert not out.exists()
    assert ask(source, destination="full.safetensors")[0]


def test_project_files_with_values_that_are_not_finite_are_refused():
    params = seeded_params(small())
    params["fusion"]["residual"]["bias"][1] = np.inf
    save_weights("in.safetensors", Weights(params, small(), {}))
    refuse(r"not finite in fusion\.residual\.bias", "in.safetensors", destination="o.safetensors")


@pytest.mark.parametrize("dtype", ["int32", "complex64"])
def test_only_floating_point_numbers_are_weights(dtype):
    tensors = float32_tensors()
    tensors["shallow.1.bias"] = tensors["shallow.1.bias"].astype(dtype)
    message = rf"in\.safetensors: shallow\.1\.bias is of type {dtype}, but weights"
    refuse(message, pytorch_file(tensors), destination="o.safetensors")


def test_our_files_of_another_type_are_one_line():
    save_file({"x": np.ones(2, np.int32)}, "w.safetensors", {"model": json.dumps({"channels": 8})})
    with pytest.raises(WeightsError, match=r"w\.safetensors: x is of type I32; weights are of F64, F32, F16, BF16"):
        load_weights("w.safetensors")


def test_counters_of_wrappers_are_left_out():
    tensors = float32_tensors("module.") | {"n_averaged": np.array(700)}
    converted = read_weights(pytorch_file(tensors))
    assert converted.weights.model == small()
    count = len(tensors) - 1
    assert f"prefix 'module.' dropped from {count} of {count + 1} names" in converted.notes
    assert "left out, as a wrapper's counter: n_averaged" in converted.notes


@pytest.mark.parametrize("prefix", ["module.", "net.", "model._orig_mod."])
def test_tensors_beside_the_network_are_listed_and_can_be_dropped(prefix):
    source = pytorch_file(float32_tensors(prefix) | {"loss.weight": np.ones(5, np.float32)})
    assert refuse("extra", source, destination="o.safetensors").splitlines()[1:] == [
        "  extra (1): a line `NAME = -` in a file for --names drops one",
        "    loss.weight (5,)",
    ]
    Path("names.txt").write_text("loss = -\n")
    converted = read_weights(source, renaming=read_names("names.txt"))
    assert converted.weights.model == small()
    assert "dropped by names.txt: loss.weight" in converted.notes


def test_a_part_of_another_network_is_not_taken_for_a_wrapper():
    tensors = {f"net.{i}.weight": np.zeros((8, 8, 3, 3), np.float32) for i in range(9)}
    source = pytorch_file(tensors | {"tail.weight": np.zeros((3, 8, 3, 3), np.float32)})
    refuse(r"\(net\.0\.weight, the first kernel, takes 8 channels\)", source, inspect=True)


def test_foreign_names_with_a_buffer_beside_them_are_converted_by_the_proposed_file():
    tensors = {f"their_{name.replace('.', '_', 1)}": value for name, value in float32_tensors().items()}
    source = pytorch_file(tensors | {"dwt.filter": np.ones((4, 1, 2, 2), np.float32)})
    refuse(r"under other names, and besides dwt\.filter; .* --inspect", source, destination="o.safetensors")
    assert "no place for: dwt.filter (4, 1, 2, 2)" in ask(source, inspect=True, write_names="names.txt")[1]
    assert "dwt.filter = -" in Path("names.txt").read_text().splitlines()
    found = flatten(read_weights(source, renaming=read_names("names.txt")).weights.params)
    np.testing.assert_array_equal(found["fusion.residual.bias"], tensors["their_fusion_residual.bias"])


@pytest.mark.parametrize("model", ["DerainNet-v2", '{"dim": 64}', '{"spp_sizes": 3}', "[1]", "null"])
def test_a_file_of_other_code_may_name_its_model(model):
    tensors = {f"their_{name}": value for name, value in float32_tensors().items()}
    save_file(tensors, "in.safetensors", {"model": model, "record": "2026"})
    ask("in.safetensors", inspect=True, write_names="names.txt")
    assert ask("in.safetensors", destination="o.safetensors", names="names.txt")[0]
    found = flatten(load_weights("o.safetensors").params)
    np.testing.assert_array_equal(found["fusion.residual.bias"], tensors["their_fusion.residual.bias"])


def test_a_file_of_a_later_version_is_still_ours():
    save_weights("in.safetensors", WEIGHTS)
    content = Path("in.safetensors").read_bytes()
    Path("in.safetensors").write_bytes(content.replace(rb"\"channels\"", rb"\"chanels2\""))
    with pytest.raises(WeightsError, match="one of a later version of this package: unknown fields chanels2"):
        read_weights("in.safetensors")


@pytest.mark.parametrize("other", ["offset", "norm.bias"])
def test_no_bias_is_made_up_where_another_tensor_may_be_the_bias(other):
    tensors = {name.replace("query.conv.bias", f"q.{other}"): value for name, value in float32_tensors().items()}
    source = pytorch_file({f"their_{name}": value for name, value in tensors.items()})
    lines = [f"their_{name} = {name}\n" for name in tensors if not name.endswith(other)]
    dropped = [f"their_{name} = -\n" for name in tensors if name.endswith(other)]
    for text in (lines, lines + dropped):
        Path("names.txt").write_text("".join(text))
        message = refuse("nothing was written", source, destination="o.safetensors", names="names.txt")
        assert f"  missing ({len(dropped)}):" in message.splitlines()
    # Without such tensors zeros are the only reading, but not in a file with names of ours, which is damaged.
    tensors = {name: value for name, value in tensors.items() if not name.endswith(other)}
    source = pytorch_file({f"their_{name}": value for name, value in tensors.items()})
    Path("names.txt").write_text("".join(lines))
    found = flatten(read_weights(source, renaming=read_names("names.txt")).weights.params)
    assert not found["entrance.spatial.level_0.query.bias"].any()
    assert found["entrance.spatial.level_0.key.bias"].any()
    Path("names.txt").write_text("loss = -\n")
    source = pytorch_file(tensors | {"loss.weight": np.ones(5, np.float32)})
    refuse(rf"missing \({len(dropped)}\)", source, destination="o.safetensors", names="names.txt")


def test_what_is_mostly_something_else_holds_no_network_of_ours():
    shapes = {parameter.torch: parameter.torch_shape for parameter in parameters(small())}
    assert models_of_shapes(shapes | {"extra": (7,)})[1] == ["extra"]
    assert models_of_shapes(shapes | {f"extra.{i}": (7, i) for i in range(len(shapes))}) == ([], [])


def test_names_that_only_begin_like_ours_are_not_ours():
    # As EDSR has them (Lim et al., CVPRW 2017), without the upsampler.
    shapes: dict[str, tuple[int, ...]] = {"head.0.weight": (8, 3, 3, 3), "tail.1.weight": (3, 8, 3, 3)}
    for block in range(4):
        shapes |= {f"body.{block}.body.{i}.weight": (8, 8, 3, 3) for i in (0, 2)}
        shapes |= {f"body.{block}.body.{i}.bias": (8,) for i in (0, 2)}
    assert not are_ours(shapes)
    source = pytorch_file({name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    for fields in ({"inspect": True}, {"destination": "o.safetensors"}):
        refuse(r"holds another network: .* no 1×1 kernels", source, **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"inspect": True, "write_names": "no/n.txt"}, r"no/n\.txt: folder no does not exist"),
        ({"inspect": True, "write_names": "x.safetensors"}, "is a folder; --write-names takes a file's name"),
        ({"destination": "no/o.safetensors"}, r"no/o\.safetensors: folder no does not exist"),
        ({"destination": "x.safetensors"}, r"x\.safetensors is a folder; name a file"),
        ({"destination": "file", "overwrite": True}, "file is a file, and a name without suffix makes a folder"),
    ],
)
def test_where_nothing_can_be_written_is_said_before_any_work(fields, message):
    Path("x.safetensors").mkdir()
    Path("file").write_text("")
    refuse(message, **fields)
