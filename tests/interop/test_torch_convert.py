"""Converting, inspecting and verifying checkpoints, as `convert_weights.py` does."""

import argparse
import re
import shlex
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file as save_safetensors

from multifocal_jax.config import ModelConfig
from multifocal_jax.fast import scales
from multifocal_jax.interop import inputs, torch_network
from multifocal_jax.interop.architecture import models_of_shapes
from multifocal_jax.interop.conversion import read_weights, write_weights
from multifocal_jax.interop.errors import ConversionError
from multifocal_jax.interop.foreign.matching import align
from multifocal_jax.interop.inputs import Inputs
from multifocal_jax.interop.intermediates import torch_intermediates
from multifocal_jax.interop.names import parameters
from multifocal_jax.interop.verification import DERAINED, GRADIENTS
from multifocal_jax.interop.torch_files import read_torch_checkpoint
from multifocal_jax.interop.verification import verify
from multifocal_jax.interop.workflow import Request, run
from multifocal_jax.weights import WeightsError, flatten, load_weights
from tests.interop.foreign_network import ForeignNet, MistakenNet, Options, ScrambledNet
from tests.interop.interop_variants import SWITCHES, VARIANTS, small

torch.set_num_threads(1)  # the networks are tiny; threads of PyTorch and JAX would only wait for each other

FOREIGN = Path(__file__).parent / "foreign_network.py"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def lines():
    return []


def twin(config: ModelConfig, seed: int = 0) -> torch_network.TorchNet:
    torch.manual_seed(seed)
    return torch_network.TorchNet(config)


def save(path: Path, content: object, **options) -> str:
    torch.save(content, path, **options)
    return str(path)


def hidden(name: str) -> list[tuple[str, str]]:
    """What the tensors of a variant do not show."""
    fields = ("heads", "spp_sizes", "channel_softmax", "global_skip")
    given = {key: str(value) for key, value in SWITCHES[name].items() if key in fields}
    if SWITCHES[name].get("interaction") == "single_scale" or "pyramid" in SWITCHES[name]:
        given |= SWITCHES[name]
    return list(given.items())


@pytest.mark.parametrize("name", [name for name in VARIANTS if VARIANTS[name].modules])
def test_every_variant_goes_to_jax_and_back_unchanged(name, tmp_path):
    network = twin(VARIANTS[name])
    source = save(tmp_path / "in.pth", network.state_dict())
    converted = read_weights(source, overrides=hidden(name))
    assert converted.weights.model == VARIANTS[name]
    write_weights(tmp_path / "w.safetensors", converted.weights)
    again = read_weights(tmp_path / "w.safetensors").weights
    assert again.model == VARIANTS[name]
    write_weights(tmp_path / "out.pth", again)
    back = torch.load(tmp_path / "out.pth", weights_only=True)["state_dict"]
    assert set(back) == set(network.state_dict())
    for key, value in network.state_dict().items():
        assert torch.equal(back[key], value), key
    # What we wrote says itself which architecture it is.
    assert read_weights(tmp_path / "out.pth").weights.model == VARIANTS[name]


def _wrapped(state: dict) -> dict[str, object]:
    module = {f"module.{key}": value for key, value in state.items()}
    return {
        "plain": state,
        "state_dict": {"state_dict": state, "epoch": 700},
        "params": {"params": state},
        "params_ema": {"params": {key: value + 1 for key, value in state.items()}, "params_ema": state},
        "model": {"model": state, "optimizer": {"lr": 1e-4}},
        "nested": {"state_dict": {"model": state}},
        "beside_a_tensor": {"step": torch.tensor(7), "model": state},
        "averaged": {"n_averaged": torch.tensor(700), **module},
        "data_parallel": module,
        "compiled_data_parallel": {"model": {f"module._orig_mod.{key}": value for key, value in state.items()}},
        "half": {key: value.half() for key, value in state.items()},
        "bfloat16": {key: value.bfloat16() for key, value in state.items()},
        "double": {key: value.double() for key, value in state.items()},
    }


def test_a_model_averaged_by_pytorch_is_read(tmp_path):
    averaged = torch.optim.swa_utils.AveragedModel(twin(small()))
    converted = read_weights(save(tmp_path / "in.pth", averaged.state_dict()))
    assert converted.weights.model == small()
    assert "left out, as a wrapper's counter: n_averaged" in converted.notes


def test_an_entry_that_must_be_named_is_asked_for(tmp_path):
    state = twin(small()).state_dict()
    source = save(tmp_path / "in.pth", {"step": torch.tensor(7), "weights_of_700": state})
    with pytest.raises(ConversionError, match=r"weights_of_700 are not tensors; .* use --key ENTRY"):
        read_weights(source)
    assert read_weights(source, key="weights_of_700").weights.model == small()


def test_integers_are_refused_before_they_are_verified(tmp_path):
    state = {key: (100 * value).int() for key, value in twin(small()).state_dict().items()}
    with pytest.raises(ConversionError, match=r"in\.pth: .* is of type int32"):
        run(Request(source=save(tmp_path / "in.pth", state), verify=True), print)


def test_the_gaussian_pyramid_is_the_same_after_another_precision():
    images = torch.rand(1, 3, 16, 16, dtype=torch.float64)
    network = torch_network.GaussianDownsample()
    expected = network.double()(images)
    assert torch.equal(network.float().double()(images), expected)
    # Away from the border a constant stays as it is.
    assert abs(network(torch.ones_like(images))[0, 0, 4, 4].item() - 1) < 1e-15


@pytest.mark.usefixtures("blocks_only")
def test_a_gaussian_pyramid_can_be_verified(tmp_path, lines):
    source = save(tmp_path / "in.pth", twin(small(modules=0, pyramid="gaussian")).state_dict())
    model = [("interaction", "cross_scale"), ("pyramid", "gaussian")]
    assert run(Request(source=source, verify=True, model=model), lines.append), lines[-1]


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrapper", _wrapped({}))
def test_wrappers_prefixes_and_precisions(wrapper, legacy, tmp_path):
    state = twin(small()).state_dict()
    source = save(tmp_path / "in.pth", _wrapped(state)[wrapper], _use_new_zipfile_serialization=not legacy)
    flat = flatten(read_weights(source).weights.params)
    tolerance = {"half": 1e-3, "bfloat16": 1e-2}.get(wrapper, 0)
    for parameter in parameters(small()):
        expected = state[parameter.torch].numpy()
        if expected.ndim == 4:
            expected = expected.transpose(2, 3, 1, 0)
        found = flat[parameter.flax]
        assert found.dtype == (np.float64 if wrapper == "double" else np.float32)
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_an_entry_can_be_chosen(tmp_path):
    state = twin(small()).state_dict()
    source = save(
        tmp_path / "in.pth", {"params": state, "params_ema": {key: 0 * value for key, value in state.items()}}
    )
    assert np.all(flatten(read_weights(source).weights.params)["fusion.merge.bias"] == 0)
    assert np.any(flatten(read_weights(source, key="params").weights.params)["fusion.merge.bias"])
    with pytest.raises(ConversionError, match="has no dictionary 'weights'; its entries: params, params_ema"):
        read_weights(source, key="weights")


def test_safetensors_with_pytorch_names(tmp_path):
    from safetensors.torch import save_file

    state = twin(small()).state_dict()
    save_file(dict(state), tmp_path / "in.safetensors")
    params = flatten(read_weights(tmp_path / "in.safetensors").weights.params)
    np.testing.assert_array_equal(params["fusion.merge.bias"], state["fusion.merge.conv.bias"].numpy())


def test_a_workdir_is_read_and_written(tmp_path):
    source = save(tmp_path / "in.pth", twin(small()).state_dict())
    written = write_weights(tmp_path / "workdir", read_weights(source).weights)
    assert written == tmp_path / "workdir" / "weights.safetensors"
    assert load_weights(written).model == small()
    assert read_weights(tmp_path / "workdir").weights.model == small()
    assert read_weights("demo").weights.record["name"] == "demo"
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"holds no weights\.safetensors"):
        read_weights(tmp_path / "empty")


def test_every_missing_extra_and_misshapen_tensor_is_listed_and_nothing_is_written(tmp_path, lines):
    state = dict(twin(small()).state_dict())
    del state["body.0.down.1.bias"], state["shallow.2.weight"]
    state["body.0.down.0.weight"] = state["body.0.down.0.weight"][:, :3]
    state["fusion.residual.bias"] = torch.zeros(4)
    state["discriminator.weight"] = torch.zeros(2, 2)
    state["body.0.norm.num_batches_tracked"] = torch.tensor(7)
    source = save(tmp_path / "in.pth", state)
    with pytest.raises(ConversionError) as error:
        run(Request(source=source, destination=str(tmp_path / "out.safetensors")), lines.append)
    text = str(error.value)
    assert "missing (2):" in text
    assert "body.0.down.1.bias (8,)" in text
    assert "shallow.2.weight (8, 3, 3, 3)" in text
    assert "extra (2):" in text
    assert "discriminator.weight (2, 2)" in text
    assert "body.0.norm.num_batches_tracked ()" in text
    assert "misshapen (2):" in text
    assert "body.0.down.0.weight is (8, 3, 3, 3), expected (8, 8, 3, 3)" in text
    assert "fusion.residual.bias is (4,), expected (3,)" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.pth"]


def test_values_that_are_not_finite_are_refused(tmp_path):
    state = twin(small()).state_dict()
    state["fusion.residual.bias"][1] = float("nan")
    with pytest.raises(ConversionError, match=r"not finite in fusion\.residual\.bias"):
        read_weights(save(tmp_path / "in.pth", state))


def test_a_fixed_pyramid_must_be_named(tmp_path):
    source = save(tmp_path / "in.pth", twin(VARIANTS["model_2"]).state_dict())
    with pytest.raises(ConversionError, match="--model pyramid=gaussian or --model pyramid=average"):
        read_weights(source)
    assert read_weights(source, overrides=[("pyramid", "average")]).weights.model == VARIANTS["model_2"]
    with pytest.raises(ConversionError, match=r"'?laplacian'?; allowed: '?learned'?, '?gaussian'?, '?average'?"):
        read_weights(source, overrides=[("pyramid", "laplacian")])


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_code_is_never_run(legacy, tmp_path):
    trace = tmp_path / "was_run"
    source = save(tmp_path / "in.pth", {"state_dict": Evil(trace)}, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(
        ConversionError, match=r"a pickle that calls builtins\.getattr, pathlib\.Path, which is not run"
    ) as error:
        read_weights(source)
    assert not trace.exists()
    assert "python" not in str(error.value)  # no command, as that would run it


def _needing_code(state: dict, network: object) -> dict[str, object]:
    return {
        "module": network,
        "module in an entry": {"epoch": 3, "model": network},
        "tensors beside an object": {"args": Options(), "state_dict": state},
        "tensors with an object": {**state, "options": Options()},
        "tensors beside an array with an object": {
            "history": np.array([Options()], dtype=object),
            "ema": {"net": state},
        },
    }


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")  # torch, on legacy files of modules
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", _needing_code({}, None))
def test_what_needs_code_is_refused_with_a_command_that_works(kind, legacy, tmp_path, monkeypatch):
    network = twin(small(modules=0))
    content = _needing_code(network.state_dict(), network)[kind]
    folder = tmp_path / "it's $HOME"
    folder.mkdir()
    source = save(folder / "in.pth", content, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ConversionError, match=r"pickled code .* which is not run") as error:
        read_weights(source)
    assert ("foreign_network.Options" if kind.endswith("object") else "torch_network.TorchNet") in str(error.value)
    python, option, code = shlex.split(str(error.value).partition("make a plain one: ")[2])
    assert (python, option) == ("python", "-c")
    monkeypatch.chdir(tmp_path)
    exec(code)  # what the command does, without the start of a process
    state = torch.load("state_dict.pth", weights_only=True)
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())
    assert len(state) == len(network.state_dict())


@pytest.mark.parametrize("legacy", [False, True])
def test_what_training_scripts_store_beside_the_tensors_is_read(legacy, tmp_path):
    beside = {
        "args": argparse.Namespace(lr=1e-4, resume=Path("/runs/1"), windows=PureWindowsPath("C:/runs"), gpus={0, 1}),
        "epoch": np.int64(700),
        "best": np.float32(31.5),
        "history": np.arange(6.0).reshape(2, 3),
        "names": np.array(["a", "bc"]),
        "order": OrderedDict(a=1),
    }
    state = twin(small(modules=0)).state_dict()
    source = save(tmp_path / "in.pth", {**beside, "state_dict": state}, _use_new_zipfile_serialization=not legacy)
    found = read_torch_checkpoint(source).tensors
    assert found.keys() == state.keys()
    assert all(np.array_equal(found[key], value.numpy()) for key, value in state.items())


@pytest.mark.parametrize("legacy", [False, True])
def test_weights_in_numpys_arrays_are_read(legacy, tmp_path):
    state = {key: value.numpy() for key, value in twin(small(modules=0)).state_dict().items()}
    first, second, *_ = state
    stored = {**state, first: state[first].astype(">f8"), second: np.asfortranarray(state[second])}
    source = save(tmp_path / "in.pth", {"params": stored}, _use_new_zipfile_serialization=not legacy)
    found = read_torch_checkpoint(source).tensors
    assert all(np.array_equal(found[key], value) for key, value in state.items())


def test_a_flipped_bit_in_a_tensor_is_found_by_the_checksum(tmp_path, lines):
    state = twin(small(modules=0)).state_dict()
    source = tmp_path / "in.pth"
    save(source, state)
    values = state["fusion.merge.conv.weight"].numpy().tobytes()
    content = bytearray(source.read_bytes())
    content[content.index(values) + 100] ^= 1
    source.write_bytes(content)
    with pytest.raises(ConversionError, match=r"in\.pth is damaged: the checksum of in/data/\d+ in it is wrong"):
        run(Request(source=str(source), destination=str(tmp_path / "o.safetensors")), lines.append)
    assert not (tmp_path / "o.safetensors").exists()


def test_a_torchscript_program_is_refused(tmp_path):
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.script(torch.nn.Conv2d(3, 3, 1)).save(tmp_path / "in.pth")
    with pytest.raises(ConversionError, match="TorchScript"):
        read_weights(tmp_path / "in.pth")


@pytest.mark.parametrize("content", [b"", b"nonsense" * 50, None], ids=["empty", "nonsense", "truncated"])
def test_damaged_files_are_refused(content, tmp_path):
    path = tmp_path / "in.pth"
    if content is None:
        save(path, twin(small()).state_dict())
        content = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(content)
    with pytest.raises(ConversionError, match="damaged or not a PyTorch checkpoint"):
        read_weights(path)
    with pytest.raises(WeightsError, match=r"nowhere\.pth' are neither a file nor a workdir nor packaged"):
        read_weights(tmp_path / "nowhere.pth")
    broken = tmp_path / "in.safetensors"
    broken.write_bytes(content)
    with pytest.raises(WeightsError, match=r"not a readable \.safetensors file"):
        read_weights(broken)


def test_files_that_hold_no_tensors(tmp_path):
    with pytest.raises(ConversionError, match=r"holds no tensors \(its entries: epoch, lr\)"):
        read_weights(save(tmp_path / "a.pth", {"epoch": 3, "lr": 0.1}))
    with pytest.raises(ConversionError, match="holds a list"):
        read_weights(save(tmp_path / "b.pth", [1, 2]))


@pytest.mark.parametrize("legacy", [False, True])
def test_another_network_is_refused_in_plain_words(legacy, tmp_path):
    # Tensors as PReNet has them (Ren et al., CVPR 2019).
    state = {"conv0.0.weight": torch.zeros(32, 6, 3, 3), "conv0.0.bias": torch.zeros(32)}
    for gate in "ifgo":
        state |= {f"conv_{gate}.0.weight": torch.zeros(32, 64, 3, 3), f"conv_{gate}.0.bias": torch.zeros(32)}
    state |= {"conv.0.weight": torch.zeros(3, 32, 3, 3), "conv.0.bias": torch.zeros(3)}
    source = save(tmp_path / "in.pth", state, _use_new_zipfile_serialization=not legacy)
    for request in (Request(source=source, destination=str(tmp_path / "o.pth")), Request(source=source, inspect=True)):
        with pytest.raises(ConversionError, match=r"another network: .* takes 6 channels"):
            run(request, print)


@pytest.mark.parametrize("name", ["default", "model_3", "residual_blocks", "heads_2", "levels_2", "value_unprojected"])
def test_weights_trained_with_the_other_order_of_bands(name, tmp_path, monkeypatch):
    config = VARIANTS[name]
    other = twin(config).double()
    images = torch.rand(1, 3, 24, 16, dtype=torch.float64)
    right = torch_network.FeatureRecalibration.forward

    def swapped(self, x):
        ll, lh, hl, hh = right(self, x).chunk(4, dim=1)
        return torch.cat([ll, hl, lh, hh], dim=1)

    monkeypatch.setattr(torch_network.FeatureRecalibration, "forward", swapped)
    with torch.inference_mode():
        expected = other(images)
    monkeypatch.undo()
    source = save(tmp_path / "in.pth", other.state_dict())
    converted = read_weights(source, overrides=hidden(name), band_order="LL,HL,LH,HH")
    write_weights(tmp_path / "out.pth", converted.weights)
    ours = torch_network.TorchNet(config).double()
    ours.load_state_dict(torch.load(tmp_path / "out.pth", weights_only=True)["state_dict"])
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), expected, rtol=1e-11, atol=1e-12)
        assert (other(images) - expected).abs().max() > 1e-6  # the order matters


@pytest.fixture
def foreign(tmp_path) -> str:
    torch.manual_seed(0)
    return save(tmp_path / "foreign.pth", {"model": {f"module.{k}": v for k, v in ForeignNet().state_dict().items()}})


def test_a_checkpoint_of_other_code_from_inspection_to_verified_weights(foreign, tmp_path, lines):
    with pytest.raises(ConversionError, match=r"under other names; .* --inspect"):
        run(Request(source=foreign, destination=str(tmp_path / "o.safetensors")), lines.append)
    names = str(tmp_path / "names.txt")
    assert run(Request(source=foreign, inspect=True, write_names=names), lines.append)
    assert "64 certain, 0 ambiguous" in "\n".join(lines)
    out = str(tmp_path / "o.safetensors")
    lines.clear()
    place = f"{FOREIGN}:ForeignNet"
    request = Request(source=foreign, destination=out, names=names, verify=True, torch_module=place, trace=True)
    assert run(request, lines.append), "\n".join(lines)
    assert "no block diverges" in lines
    for row in ("output", DERAINED, GRADIENTS):
        assert f"\n{row} " in lines[-3]
    assert load_weights(out).model == ModelConfig(channels=8, modules=2)


def test_weights_go_back_to_the_other_code(foreign, tmp_path, lines):
    names, ours, theirs = (str(tmp_path / name) for name in ("names.txt", "ours.safetensors", "theirs.pth"))
    run(Request(source=foreign, inspect=True, write_names=names), lines.append)
    Path(names).write_text(Path(names).read_text() + "dwt.filter = -\n")  # a buffer of which we know nothing
    state = torch.load(foreign, weights_only=True)["model"]
    save(Path(foreign), state | {"module.dwt.filter": torch.ones(4)})
    run(Request(source=foreign, destination=ours, names=names, band_order="LL,HL,LH,HH"), lines.append)
    run(Request(source=ours, destination=theirs, names=names, band_order="LL,HL,LH,HH"), lines.append)
    back = torch.load(theirs, weights_only=True)["state_dict"]
    assert {f"module.{key}" for key in back} == state.keys()
    assert all(torch.equal(back[key.removeprefix("module.")], value) for key, value in state.items())
    for destination in (None, str(tmp_path / "o.safetensors")):
        with pytest.raises(ConversionError, match=r"ours\.safetensors is this project's own, .* name a \.pth"):
            run(Request(source=ours, destination=destination, verify=True, names=names), lines.append)


@pytest.mark.usefixtures("blocks_only")
def test_dropped_tensors_need_not_be_in_a_users_network(tmp_path, lines):
    torch.manual_seed(0)
    state = ForeignNet().state_dict() | {"dwt.filter": torch.ones(4, 1, 2, 2)}
    source, names = save(tmp_path / "in.pth", state), str(tmp_path / "names.txt")
    assert run(Request(source=source, inspect=True, write_names=names), lines.append)
    request = Request(source=source, names=names, verify=True, torch_module=f"{FOREIGN}:ForeignNet")
    assert run(request, lines.append), lines[-1]


@pytest.mark.parametrize(
    ("mistake", "block", "explanation"),
    [
        (
            "activation",
            "module_1.channel.level_0.key input",
            "in what feeds module_1.channel.level_0.key: the activation after the down convolution",
        ),
        (
            "padding",
            "module_1.down_1 output",
            "in the convolution module_1.down_1: its input has another shape there "
            "(shapes (2, 12, 20, 8) and (2, 13, 21, 8))",
        ),
    ],
)
@pytest.mark.usefixtures("blocks_only")
def test_the_first_diverging_block_of_a_users_network_is_found(mistake, block, explanation, tmp_path, lines):
    torch.manual_seed(0)
    network = MistakenNet(mistake=mistake)
    source = save(tmp_path / "in.pth", network.state_dict())
    names = str(tmp_path / "names.txt")
    run(Request(source=source, inspect=True, write_names=names), lines.append)
    request = Request(
        source=source,
        destination=str(tmp_path / "o.pth"),
        names=names,
        torch_module=f"{FOREIGN}:MistakenNet",
        torch_args={"mistake": mistake},
        trace=True,
    )
    lines.clear()
    assert not run(request, lines.append)
    assert not (tmp_path / "o.pth").exists()
    text = "\n".join(lines)
    marked = [line for line in text.splitlines() if "<<<" in line]
    assert len(marked) == 1
    assert marked[0].startswith(f"{block} ")
    assert f"the first divergence is {explanation}" in text


@pytest.mark.usefixtures("blocks_only")
def test_scrambled_names_are_ambiguous_until_activations_settle_them(tmp_path, lines):
    torch.manual_seed(0)
    network = ScrambledNet()
    source = save(tmp_path / "in.pth", network.state_dict())
    run(Request(source=source, inspect=True), lines.append)
    assert "2 certain, 62 ambiguous" in "\n".join(lines)
    names, out = str(tmp_path / "names.txt"), str(tmp_path / "o.pth")
    place = f"{FOREIGN}:ScrambledNet"
    lines.clear()
    run(Request(source=source, inspect=True, torch_module=place, write_names=names), lines.append)
    assert "64 certain, 0 ambiguous" in "\n".join(lines)
    assert run(Request(source=source, destination=out, names=names, verify=True, torch_module=place), lines.append)
    # The same weights in the same places as the names of the unscrambled network say.
    plain = {key: network.w[network.order.index(key.rpartition(".")[0])] for key in network.inner.state_dict()}
    shapes = {key: tuple(value.shape) for key, value in network.inner.state_dict().items()}
    state = torch.load(out, weights_only=True)["state_dict"]
    for match in align(shapes, models_of_shapes(shapes)[0][0]).matches:
        expected = plain[f"{match.theirs}.weight"].weight
        assert torch.equal(state[f"{match.ours.torch}.weight"], expected), match.ours.flax


def test_settling_says_where_the_networks_differ(tmp_path, lines):
    source = save(tmp_path / "in.pth", ScrambledNet(heads=2).state_dict())
    request = Request(source=source, inspect=True, torch_module=f"{FOREIGN}:ScrambledNet", torch_args={"heads": 2})
    with pytest.raises(ConversionError, match=r"module_0\.channel\.level_0 .*--model NAME=VALUE"):
        run(request, lines.append)
    known = Request(**{**vars(request), "model": [("heads", "2")]})
    assert run(known, lines.append)


@pytest.mark.parametrize(
    ("place", "arguments", "message"),
    [
        ("nowhere.py:Net", {}, r"no file 'nowhere\.py' exists"),
        (f"{FOREIGN}:Nothing", {}, "has no Nothing; its classes: .*ForeignNet"),
        (f"{FOREIGN}:ForeignNet", {"width": 3}, "making ForeignNet raised TypeError"),
        (f"{FOREIGN}:ForeignNet", {"blocks": 3}, r"missing blocks\.2\."),
        (
            f"{FOREIGN}:ForeignNet",
            {"dim": 16},
            r"misshapen tail\.0\.weight: \(8, 24, 3, 3\), expected \(16, 48, 3, 3\)",
        ),
    ],
)
def test_what_is_wrong_with_a_users_module_is_said_in_one_message(place, arguments, message, foreign):
    with pytest.raises(ConversionError, match=message):
        run(Request(source=foreign, inspect=True, torch_module=place, torch_args=arguments), print)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "nothing to do"),
        ({"trace": True}, "--torch-module"),
        ({"torch_module": "a.py:B", "destination": "x.pth"}, "needs --verify, --trace or --inspect"),
        ({"write_names": "n.txt", "destination": "x.pth"}, "add --inspect"),
        ({"inspect": True, "destination": "x.pth"}, "--inspect converts nothing"),
    ],
)
def test_contradictory_requests_are_refused(fields, message):
    with pytest.raises(ConversionError, match=message):
        run(Request(source="in.pth", **fields), print)


def test_nothing_is_overwritten_unasked(tmp_path, lines):
    source = save(tmp_path / "in.pth", twin(small()).state_dict())
    out = tmp_path / "out.safetensors"
    out.write_text("precious")
    with pytest.raises(ConversionError, match="--overwrite replaces it"):
        run(Request(source=source, destination=str(out)), lines.append)
    assert out.read_text() == "precious"
    assert run(Request(source=source, destination=str(out), overwrite=True), lines.append)
    assert load_weights(out).model == small()
    with pytest.raises(ConversionError, match=r"cannot write \.h5"):
        run(Request(source=source, destination=str(tmp_path / "out.h5")), lines.append)
    with pytest.raises(ConversionError, match="does not exist"):
        run(Request(source=source, destination=str(tmp_path / "no" / "out.pth")), lines.append)


def test_float16_halves_the_file(tmp_path):
    weights = read_weights(save(tmp_path / "in.pth", twin(small()).state_dict())).weights
    write_weights(tmp_path / "full.pth", weights)
    write_weights(tmp_path / "half.pth", weights, "float16")
    state = torch.load(tmp_path / "half.pth", weights_only=True)["state_dict"]
    assert {value.dtype for value in state.values()} == {torch.float16}


def test_the_entry_point_converts_and_reports_errors_as_one_line(tmp_path):
    source = save(tmp_path / "in.pth", twin(small(modules=0)).state_dict())
    command = [sys.executable, str(ROOT / "convert_weights.py"), source]
    done = subprocess.run([*command, str(tmp_path / "o.safetensors")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "wrote" in done.stdout
    failed = subprocess.run(command, capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: nothing to do")
    assert len(failed.stderr.splitlines()) == 1


@pytest.fixture
def blocks_only(monkeypatch):
    """Verification without the programs of `derain` and training, where a test is not about these."""
    monkeypatch.setattr(inputs, "verification_inputs", lambda photograph: Inputs(np.random.rand(2, 21, 35, 3)))


def test_an_error_in_what_derain_runs_is_found_and_nothing_is_written(tmp_path, lines, monkeypatch):
    source = save(tmp_path / "in.pth", twin(small(modules=0)).state_dict())
    request = Request(
        source=source,
        destination=str(tmp_path / "out.safetensors"),
        verify=True,
        model=[("interaction", "cross_scale")],
    )
    right = scales._merge_strips
    monkeypatch.setattr(scales, "_merge_strips", lambda *given: 1.05 * right(*given))
    assert not run(request, lines.append)
    assert lines[-1] == f"{tmp_path / 'out.safetensors'} was not written"
    assert not (tmp_path / "out.safetensors").exists()
    for table in lines[-2].split("\n\n"):
        (marked,) = (line for line in table.splitlines() if "<<<" in line)
        assert marked.startswith("output as `derain` computes it ")


def test_verification_shows_what_derain_and_training_run(tmp_path, lines):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)).save(tmp_path / "mine.png")
    source = save(tmp_path / "in.pth", twin(small(modules=0)).state_dict())
    request = Request(
        source=source, verify=True, image=str(tmp_path / "mine.png"), model=[("interaction", "cross_scale")]
    )
    assert run(request, lines.append)
    double, single = lines[-1].split("\n\n")
    assert "1×193×321" in double
    assert "\noutput as `derain` computes it " in double
    assert re.search(r"\ngradients as training computes them .* largest at \S+\.(kernel|bias)\n", double)
    assert "\noutput as `derain` computes it " in single
    assert "gradients" not in single  # which rounding changes by too much


def test_a_network_that_computes_no_gradients_can_be_verified_all_the_same(tmp_path, lines):
    (tmp_path / "net.py").write_text(
        "import torch\nfrom multifocal_jax import ModelConfig\n"
        "from multifocal_jax.interop.torch_network import TorchNet\n\n"
        "class Net(TorchNet):\n    def __init__(self):\n"
        "        super().__init__(ModelConfig(channels=8, modules=0))\n"
        "    @torch.no_grad()\n    def forward(self, x):\n        return super().forward(x)\n"
    )
    source = save(tmp_path / "in.pth", twin(small(modules=0)).state_dict())
    request = Request(
        source=source, verify=True, torch_module=f"{tmp_path}/net.py:Net", model=[("interaction", "cross_scale")]
    )
    assert run(request, lines.append), lines[-1]
    assert "the network computes none: not judged" in lines[-1]


@pytest.mark.usefixtures("blocks_only")
def test_verification_uses_the_checkpoints_own_tensors(tmp_path, lines):
    source = save(tmp_path / "in.pth", twin(small(modules=0)).double().state_dict())
    assert run(Request(source=source, verify=True, model=[("interaction", "cross_scale")]), lines.append)
    assert "agree: largest relative difference" in lines[-1]
    assert lines[-1].count("agree") == 2
    converted = read_weights(source)
    network = torch_network.TorchNet(converted.weights.model).double()
    network.load_state_dict({key: torch.from_numpy(value) for key, value in converted.tensors.items()})
    assert verify(converted.weights.params, network, Inputs(np.zeros((1, 8, 8, 3)))).ok


def test_twins_of_odd_sizes_say_how_to_pad():
    with pytest.raises(ValueError, match=r"call derain\(network, rainy\), which pads"):
        twin(small())(torch.zeros(1, 3, 21, 16))
    assert torch_intermediates(twin(small()).double(), np.zeros((1, 16, 16, 3)))["output"].shape == (1, 16, 16, 3)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(2, 2).to_sparse(),
        torch.empty(2, device="meta"),
        torch.ones(2, dtype=torch.complex64).conj(),
    ],
    ids=["sparse", "meta", "conjugate"],
)
def test_tensors_without_plain_values_are_named(tensor, tmp_path):
    source = save(tmp_path / "odd.pth", {"tail.weight": tensor})
    with pytest.raises(ConversionError, match=r"odd\.pth: tail\.weight is not a plain tensor"):
        read_weights(source)


def test_a_dictionary_that_holds_itself_holds_no_tensors(tmp_path):
    content: dict[str, object] = {"epoch": 3}
    content["state_dict"] = {"again": content}
    with pytest.raises(ConversionError, match="holds no tensors"):
        read_weights(save(tmp_path / "round.pth", content))


def test_float8_is_refused_in_one_line(tmp_path):
    save_safetensors({"x": torch.ones(2).to(torch.float8_e4m3fn)}, tmp_path / "small.safetensors")
    with pytest.raises((ConversionError, WeightsError), match="is not a readable"):
        read_weights(str(tmp_path / "small.safetensors"))


def test_a_users_module_may_import_its_neighbours_and_hold_dataclasses(foreign, tmp_path):
    (tmp_path / "parts.py").write_text("WIDTH = 8\n")
    (tmp_path / "net.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom torch import nn\n"
        "from parts import WIDTH\n\n@dataclass\nclass Options:\n    width: int = WIDTH\n\n"
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.one = nn.Conv2d(3, Options().width, 3)\n"
    )
    with pytest.raises(ConversionError, match=r"missing one\.weight"):
        run(Request(source=foreign, inspect=True, torch_module=f"{tmp_path}/net.py:Net"), print)
