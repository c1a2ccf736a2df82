"""Converting, inspecting and verifying checkpoints, as `convert_weights.py` does."""

import argparse
import re
import runpy
import shlex
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path, PureWindowsPath

import jax
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file as save_safetensors

from multifocal_jax.config import ModelConfig
from multifocal_jax.fast import scales
from multifocal_jax.interop import inputs, torch_network
from multifocal_jax.interop.architecture import models_of_shapes
from multifocal_jax.interop.bands import reorder_bands
from multifocal_jax.interop.conversion import read_weights, write_weights
from multifocal_jax.interop.errors import ConversionError
from multifocal_jax.interop.foreign.matching import align
from multifocal_jax.interop.inputs import Inputs
from multifocal_jax.interop.intermediates import torch_intermediates
from multifocal_jax.interop.names import parameters, to_flax_layout
from multifocal_jax.interop.torch_files import read_torch_checkpoint
from multifocal_jax.interop.verification import DERAINED, GRADIENTS, TorchSide, compare_programs, verify
from multifocal_jax.interop.workflow import Request, run
from multifocal_jax.weights import WeightsError, flatten, load_weights
from tests.interop.foreign_network import ForeignNet, MistakenNet, Options, ScrambledNet
from tests.interop.helpers import SWITCHES, TINY, VARIANTS, flax_params, refuse, small

torch.set_num_threads(1)  # the networks are tiny; threads of PyTorch and JAX would only wait for each other

FOREIGN = Path(__file__).parent / "foreign_network.py"
ROOT = Path(__file__).parents[2]
LEGACY = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


@pytest.fixture
def lines():
    return []


def twin(config: ModelConfig = TINY) -> torch_network.TorchNet:
    torch.manual_seed(0)
    return torch_network.TorchNet(config)


def save(path: Path, content: object, legacy: bool = False) -> str:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return str(path)


@pytest.fixture
def source(tmp_path) -> str:
    """A checkpoint of the twin."""
    return save(tmp_path / "in.pth", twin().state_dict())


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
    converted = read_weights(save(tmp_path / "in.pth", network.state_dict()), overrides=hidden(name))
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


@LEGACY
@pytest.mark.parametrize("wrapper", _wrapped({}))
def test_wrappers_prefixes_and_precisions(wrapper, legacy, tmp_path):
    state = twin(small()).state_dict()
    flat = flatten(read_weights(save(tmp_path / "in.pth", _wrapped(state)[wrapper], legacy)).weights.params)
    tolerance = {"half": 1e-3, "bfloat16": 1e-2}.get(wrapper, 0)
    for parameter in parameters(small()):
        found, expected = flat[parameter.flax], to_flax_layout(state[parameter.torch].numpy())
        assert found.dtype == (np.float64 if wrapper == "double" else np.float32)
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_a_model_averaged_by_pytorch_is_read(tmp_path):
    averaged = torch.optim.swa_utils.AveragedModel(twin())
    converted = read_weights(save(tmp_path / "in.pth", averaged.state_dict()))
    assert converted.weights.model == TINY
    assert "left out, as a wrapper's counter: n_averaged" in converted.notes


def test_an_entry_can_be_chosen_and_one_of_unknown_name_must_be(tmp_path):
    state = twin().state_dict()
    entries = {"params": state, "params_ema": {key: 0 * value for key, value in state.items()}}
    source = save(tmp_path / "in.pth", entries)
    assert np.all(flatten(read_weights(source).weights.params)["fusion.merge.bias"] == 0)
    assert np.any(flatten(read_weights(source, key="params").weights.params)["fusion.merge.bias"])
    refuse("has no dictionary 'weights'; its entries: params, params_ema", source, key="weights", destination="o")
    source = save(tmp_path / "in.pth", {"step": torch.tensor(7), "weights_of_700": state})
    refuse(r"weights_of_700 are not tensors; .* use --key ENTRY", source, destination="o")
    assert read_weights(source, key="weights_of_700").weights.model == TINY


def test_safetensors_with_pytorch_names(tmp_path):
    state = twin().state_dict()
    save_safetensors(dict(state), tmp_path / "in.safetensors")
    params = flatten(read_weights(tmp_path / "in.safetensors").weights.params)
    np.testing.assert_array_equal(params["fusion.merge.bias"], state["fusion.merge.conv.bias"].numpy())


def test_a_workdir_is_read_and_written(source, tmp_path):
    written = write_weights(tmp_path / "workdir", read_weights(source).weights)
    assert written == tmp_path / "workdir" / "weights.safetensors"
    assert load_weights(written).model == TINY
    assert read_weights(tmp_path / "workdir").weights.model == TINY
    assert read_weights("demo").weights.record["name"] == "demo"
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"holds no weights\.safetensors"):
        read_weights(tmp_path / "empty")


def test_every_missing_extra_and_misshapen_tensor_is_listed_and_nothing_is_written(tmp_path):
    state = dict(twin(small()).state_dict())
    del state["body.0.down.1.bias"], state["shallow.2.weight"]
    state["body.0.down.0.weight"] = state["body.0.down.0.weight"][:, :3]
    state["fusion.residual.bias"] = torch.zeros(4)
    state["discriminator.weight"] = torch.zeros(2, 2)
    state["body.0.norm.num_batches_tracked"] = torch.tensor(7)
    text = refuse(
        "nothing was written", save(tmp_path / "in.pth", state), destination=str(tmp_path / "out.safetensors")
    )
    for line in (
        "missing (2):",
        "body.0.down.1.bias (8,)",
        "shallow.2.weight (8, 3, 3, 3)",
        "extra (2):",
        "discriminator.weight (2, 2)",
        "body.0.norm.num_batches_tracked ()",
        "misshapen (2):",
        "body.0.down.0.weight is (8, 3, 3, 3), expected (8, 8, 3, 3)",
        "fusion.residual.bias is (4,), expected (3,)",
    ):
        assert line in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.pth"]


def _with(name: str, value: float) -> dict:
    state = twin().state_dict()
    state[name][1] = value
    return state


def _round() -> dict:
    content: dict[str, object] = {"epoch": 3}
    content["state_dict"] = {"again": content}
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: _with("fusion.residual.bias", float("nan")), r"not finite in fusion\.residual\.bias"),
        (lambda: {k: (100 * v).int() for k, v in twin().state_dict().items()}, r"in\.pth: .* is of type int32"),
        (lambda: twin(VARIANTS["model_2"]).state_dict(), "--model pyramid=gaussian or --model pyramid=average"),
        (lambda: {"epoch": 3, "lr": 0.1}, r"holds no tensors \(its entries: epoch, lr\)"),
        (lambda: [1, 2], "holds a list"),
        (_round, "holds no tensors"),
        (lambda: {"tail.weight": torch.ones(2, 2).to_sparse()}, r"in\.pth: tail\.weight is not a plain tensor"),
        (lambda: {"tail.weight": torch.empty(2, device="meta")}, r"in\.pth: tail\.weight is not a plain tensor"),
        (lambda: {"tail.weight": torch.ones(2).to(torch.complex64).conj()}, r"in\.pth: tail\.weight is not a plain"),
    ],
    ids=["nan", "integers", "pyramid", "no tensors", "list", "itself", "sparse", "meta", "conjugate"],
)
def test_what_holds_no_weights_is_refused_before_it_is_verified(content, message, tmp_path):
    refuse(message, save(tmp_path / "in.pth", content()), verify=True)


def test_a_fixed_pyramid_can_be_named(tmp_path):
    source = save(tmp_path / "in.pth", twin(VARIANTS["model_2"]).state_dict())
    assert read_weights(source, overrides=[("pyramid", "average")]).weights.model == VARIANTS["model_2"]
    refuse(
        r"'?laplacian'?; allowed: '?learned'?, '?gaussian'?, '?average'?",
        source,
        model=[("pyramid", "laplacian")],
        verify=True,
    )


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@LEGACY
def test_pickled_code_is_never_run(legacy, tmp_path):
    trace = tmp_path / "was_run"
    source = save(tmp_path / "in.pth", {"state_dict": Evil(trace)}, legacy)
    text = refuse(
        r"a pickle that calls builtins\.getattr, pathlib\.Path, which is not run", source, destination="o.safetensors"
    )
    assert not trace.exists()
    assert "python" not in text  # no command, as that would run it


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
@LEGACY
@pytest.mark.parametrize("kind", _needing_code({}, None))
def test_what_needs_code_is_refused_with_a_command_that_works(kind, legacy, tmp_path, monkeypatch):
    network = twin()
    content = _needing_code(network.state_dict(), network)[kind]
    folder = tmp_path / "it's $HOME"
    folder.mkdir()
    text = refuse(
        r"pickled code .* which is not run", save(folder / "in.pth", content, legacy), destination="o.safetensors"
    )
    assert ("foreign_network.Options" if kind.endswith("object") else "torch_network.TorchNet") in text
    python, option, code = shlex.split(text.partition("make a plain one: ")[2])
    assert (python, option) == ("python", "-c")
    monkeypatch.chdir(tmp_path)
    exec(code)  # what the command does, without the start of a process
    state = torch.load("state_dict.pth", weights_only=True)
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())
    assert len(state) == len(network.state_dict())


@LEGACY
def test_numpys_arrays_and_what_training_scripts_store_beside_the_tensors_are_read(legacy, tmp_path):
    beside = {
        "args": argparse.Namespace(lr=1e-4, resume=Path("/runs/1"), windows=PureWindowsPath("C:/runs"), gpus={0, 1}),
        "epoch": np.int64(700),
        "best": np.float32(31.5),
        "history": np.arange(6.0).reshape(2, 3),
        "names": np.array(["a", "bc"]),
        "order": OrderedDict(a=1),
    }
    state = {key: value.numpy() for key, value in twin().state_dict().items()}
    first, second, *_ = state
    arrays = {**state, first: state[first].astype(">f8"), second: np.asfortranarray(state[second])}
    for content in ({**beside, "state_dict": twin().state_dict()}, {"params": arrays}):
        found = read_torch_checkpoint(save(tmp_path / "in.pth", content, legacy)).tensors
        assert found.keys() == state.keys()
        assert all(np.array_equal(found[key], value) for key, value in state.items())


def test_a_flipped_bit_in_a_tensor_is_found_by_the_checksum(source, tmp_path):
    values = twin().state_dict()["fusion.merge.conv.weight"].numpy().tobytes()
    content = bytearray(Path(source).read_bytes())
    content[content.index(values) + 100] ^= 1
    Path(source).write_bytes(content)
    refuse(
        r"in\.pth is damaged: the checksum of in/data/\d+ in it is wrong",
        source,
        destination=f"{tmp_path}/o.safetensors",
    )
    assert not (tmp_path / "o.safetensors").exists()


def test_a_torchscript_program_is_refused(tmp_path):
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.script(torch.nn.Conv2d(3, 3, 1)).save(tmp_path / "in.pth")
    refuse("TorchScript", tmp_path / "in.pth", destination="o.safetensors")


@pytest.mark.parametrize("content", [b"", b"nonsense" * 50, None], ids=["empty", "nonsense", "truncated"])
def test_damaged_files_are_refused(content, source, tmp_path):
    path = Path(source)
    content = path.read_bytes()[: path.stat().st_size // 2] if content is None else content
    path.write_bytes(content)
    refuse("damaged or not a PyTorch checkpoint", source, destination="o.safetensors")
    (tmp_path / "in.safetensors").write_bytes(content)
    for name, message in (
        ("nowhere.pth", r"nowhere\.pth' are neither a file nor a workdir nor packaged"),
        ("in.safetensors", r"not a readable \.safetensors file"),
    ):
        with pytest.raises(WeightsError, match=message):
            read_weights(tmp_path / name)


@LEGACY
def test_another_network_is_refused_in_plain_words(legacy, tmp_path):
    # Tensors as PReNet has them (Ren et al., CVPR 2019).
    state = {"conv0.0.weight": torch.zeros(32, 6, 3, 3), "conv0.0.bias": torch.zeros(32)}
    for gate in "ifgo":
        state |= {f"conv_{gate}.0.weight": torch.zeros(32, 64, 3, 3), f"conv_{gate}.0.bias": torch.zeros(32)}
    state |= {"conv.0.weight": torch.zeros(3, 32, 3, 3), "conv.0.bias": torch.zeros(3)}
    source = save(tmp_path / "in.pth", state, legacy)
    for fields in ({"destination": str(tmp_path / "o.pth")}, {"inspect": True}):
        refuse(r"another network: .* takes 6 channels", source, **fields)


@pytest.fixture
def swapped_bands(monkeypatch):
    """PyTorch's network concatenates its wavelet bands in the other order."""
    right = torch_network.FeatureRecalibration.forward

    def swapped(self, x):
        ll, lh, hl, hh = right(self, x).chunk(4, dim=1)
        return torch.cat([ll, hl, lh, hh], dim=1)

    monkeypatch.setattr(torch_network.FeatureRecalibration, "forward", swapped)


@pytest.mark.parametrize("name", ["default", "model_3", "residual_blocks", "heads_2", "levels_2", "value_unprojected"])
def test_weights_trained_with_the_other_order_of_bands(name, tmp_path, monkeypatch, swapped_bands):
    config = VARIANTS[name]
    other = twin(config).double()
    images = torch.rand(1, 3, 24, 16, dtype=torch.float64)
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


@pytest.mark.usefixtures("swapped_bands")
def test_gradients_of_a_network_with_the_other_order_of_bands():
    other = twin().double()
    params = flax_params({name: value.numpy() for name, value in other.state_dict().items()}, TINY)
    params = reorder_bands(params, TINY, "LL,HL,LH,HH")
    named = dict(other.named_parameters())
    side = TorchSide(other, {p.flax: named[p.torch] for p in parameters(TINY)}, "LL,HL,LH,HH")
    small_inputs = Inputs(np.zeros((1, 8, 8, 3)), crops=np.random.default_rng(0).random((1, 16, 24, 3)))
    with jax.enable_x64(True):
        (row,) = compare_programs(params, TINY, side, small_inputs, "float64")
        assert row.relative < 1e-10, row
        (row,) = compare_programs(params, TINY, replace(side, band_order="LL,LH,HL,HH"), small_inputs, "float64")
        assert row.relative > 1e-3


def foreign_checkpoint(path: Path, network: torch.nn.Module, **more) -> tuple[str, dict]:
    torch.manual_seed(0)
    state = {f"module.{key}": value for key, value in (network.state_dict() | more).items()}
    return save(path, {"model": state}), state


@pytest.fixture
def foreign(tmp_path) -> str:
    return foreign_checkpoint(tmp_path / "foreign.pth", ForeignNet())[0]


def test_a_checkpoint_of_other_code_from_inspection_to_verified_weights(foreign, tmp_path, lines):
    refuse(r"under other names; .* --inspect", foreign, destination=str(tmp_path / "o.safetensors"))
    names, out = str(tmp_path / "names.txt"), str(tmp_path / "o.safetensors")
    assert run(Request(source=foreign, inspect=True, write_names=names), lines.append)
    assert "64 certain, 0 ambiguous" in "\n".join(lines)
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
        message = r"ours\.safetensors is this project's own, .* name a \.pth"
        refuse(message, ours, destination=destination, verify=True, names=names)


@pytest.fixture
def blocks_only(monkeypatch):
    """Verification without the programs of `derain` and training, where a test is not about these."""
    monkeypatch.setattr(inputs, "verification_inputs", lambda photograph: Inputs(np.random.rand(2, 21, 35, 3)))


@pytest.mark.usefixtures("blocks_only")
def test_dropped_tensors_need_not_be_in_a_users_network(tmp_path, lines):
    state = ForeignNet(blocks=1).state_dict() | {"dwt.filter": torch.ones(4, 1, 2, 2)}
    source, names = save(tmp_path / "in.pth", state), str(tmp_path / "names.txt")
    assert run(Request(source=source, inspect=True, write_names=names), lines.append)
    request = Request(
        source=source, names=names, verify=True, torch_module=f"{FOREIGN}:ForeignNet", torch_args={"blocks": 1}
    )
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
    ids=["activation", "padding"],
)
@pytest.mark.usefixtures("blocks_only")
def test_the_first_diverging_block_of_a_users_network_is_found(mistake, block, explanation, tmp_path, lines):
    torch.manual_seed(0)
    source = save(tmp_path / "in.pth", MistakenNet(mistake=mistake).state_dict())
    names = str(tmp_path / "names.txt")
    run(Request(source=source, inspect=True, write_names=names), lines.append)
    lines.clear()
    request = Request(
        source=source,
        destination=str(tmp_path / "o.pth"),
        names=names,
        torch_module=f"{FOREIGN}:MistakenNet",
        torch_args={"mistake": mistake},
        trace=True,
    )
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
    fields = {"inspect": True, "torch_module": f"{FOREIGN}:ScrambledNet", "torch_args": {"heads": 2}}
    refuse(r"module_0\.channel\.level_0 .*--model NAME=VALUE", source, **fields)
    assert run(Request(source=source, model=[("heads", "2")], **fields), lines.append)


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
    refuse(message, foreign, inspect=True, torch_module=place, torch_args=arguments)


def test_a_users_module_may_import_its_neighbours_and_hold_dataclasses(foreign, tmp_path):
    (tmp_path / "parts.py").write_text("WIDTH = 8\n")
    (tmp_path / "net.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom torch import nn\n"
        "from parts import WIDTH\n\n@dataclass\nclass Options:\n    width: int = WIDTH\n\n"
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.one = nn.Conv2d(3, Options().width, 3)\n"
    )
    refuse(r"missing one\.weight", foreign, inspect=True, torch_module=f"{tmp_path}/net.py:Net")


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
    refuse(message, "in.pth", **fields)


def test_nothing_is_overwritten_unasked(source, tmp_path, lines):
    out = tmp_path / "out.safetensors"
    out.write_text("precious")
    refuse("--overwrite replaces it", source, destination=str(out))
    assert out.read_text() == "precious"
    assert run(Request(source=source, destination=str(out), overwrite=True), lines.append)
    assert load_weights(out).model == TINY
    refuse(r"cannot write \.h5", source, destination=str(tmp_path / "out.h5"))
    refuse("does not exist", source, destination=str(tmp_path / "no" / "out.pth"))


def test_float16_halves_the_file(source, tmp_path):
    write_weights(tmp_path / "half.pth", read_weights(source).weights, "float16")
    state = torch.load(tmp_path / "half.pth", weights_only=True)["state_dict"]
    assert {value.dtype for value in state.values()} == {torch.float16}


def test_the_entry_point_converts_and_reports_errors_as_one_line(source, tmp_path, monkeypatch, capsys):
    def convert(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["convert_weights.py", source, *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "convert_weights.py"), run_name="__main__")
        return ended.value.code

    assert convert(str(tmp_path / "o.safetensors")) == 0
    assert "wrote" in capsys.readouterr().out
    assert convert() == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: nothing to do")
    assert len(shown.splitlines()) == 1


def test_an_error_in_what_derain_runs_is_found_and_nothing_is_written(source, tmp_path, lines, monkeypatch):
    photograph = np.random.default_rng(0).integers(0, 256, (1, 96, 128, 3), np.uint8)  # processed in two strips
    monkeypatch.setattr(inputs, "verification_inputs", lambda image: Inputs(np.zeros((1, 8, 8, 3)), photograph))
    right = scales._merge_strips
    monkeypatch.setattr(scales, "_merge_strips", lambda *given: 1.05 * right(*given))
    assert not run(Request(source=source, destination=str(tmp_path / "out.safetensors"), verify=True), lines.append)
    assert lines[-1] == f"{tmp_path / 'out.safetensors'} was not written"
    assert not (tmp_path / "out.safetensors").exists()
    for table in lines[-2].split("\n\n"):
        (marked,) = (line for line in table.splitlines() if "<<<" in line)
        assert marked.startswith("output as `derain` computes it ")


def test_verification_shows_what_derain_and_training_run(source, tmp_path, lines):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)).save(tmp_path / "mine.png")
    assert run(Request(source=source, verify=True, image=str(tmp_path / "mine.png")), lines.append)
    double, single = lines[-1].split("\n\n")
    assert "1×193×321" in double
    assert "\noutput as `derain` computes it " in double
    assert re.search(r"\ngradients as training computes them .* largest at \S+\.(kernel|bias)\n", double)
    assert "\noutput as `derain` computes it " in single
    assert "gradients" not in single  # which rounding changes by too much


def test_a_network_that_computes_no_gradients_can_be_verified_all_the_same(source, tmp_path, lines, monkeypatch):
    crops = np.zeros((1, 8, 8, 3))
    monkeypatch.setattr(inputs, "verification_inputs", lambda image: Inputs(crops, crops=crops))
    (tmp_path / "net.py").write_text(
        "import torch\nfrom multifocal_jax.interop.torch_network import TorchNet\n"
        "from tests.interop.helpers import TINY\n\n"
        "class Net(TorchNet):\n    def __init__(self):\n        super().__init__(TINY)\n"
        "    @torch.no_grad()\n    def forward(self, x):\n        return super().forward(x)\n"
    )
    request = Request(source=source, verify=True, torch_module=f"{tmp_path}/net.py:Net")
    assert run(request, lines.append), lines[-1]
    assert "the network computes none: not judged" in lines[-1]


@pytest.mark.usefixtures("blocks_only")
@pytest.mark.parametrize("pyramid", ["learned", "gaussian"])
def test_verification_uses_the_checkpoints_own_tensors(pyramid, tmp_path, lines):
    state = twin(replace(TINY, pyramid=pyramid)).double().state_dict()
    source, model = save(tmp_path / "in.pth", state), [("pyramid", pyramid)]
    assert run(Request(source=source, verify=True, model=model), lines.append), lines[-1]
    assert lines[-1].count("agree: largest relative difference") == 2
    converted = read_weights(source, overrides=model)
    network = torch_network.TorchNet(converted.weights.model).double()
    network.load_state_dict({key: torch.from_numpy(value) for key, value in converted.tensors.items()})
    assert verify(converted.weights.params, network, Inputs(np.zeros((1, 8, 8, 3)))).ok


def test_the_gaussian_pyramid_is_the_same_after_another_precision():
    images = torch.rand(1, 3, 16, 16, dtype=torch.float64)
    network = torch_network.GaussianDownsample()
    expected = network.double()(images)
    assert torch.equal(network.float().double()(images), expected)
    # Away from the border a constant stays as it is.
    assert abs(network(torch.ones_like(images))[0, 0, 4, 4].item() - 1) < 1e-15


def test_twins_of_odd_sizes_say_how_to_pad():
    with pytest.raises(ValueError, match=r"call derain\(network, rainy\), which pads"):
        twin()(torch.zeros(1, 3, 21, 16))
    assert torch_intermediates(twin().double(), np.zeros((1, 16, 16, 3)))["output"].shape == (1, 16, 16, 3)


def test_float8_is_refused_in_one_line(tmp_path):
    save_safetensors({"x": torch.ones(2).to(torch.float8_e4m3fn)}, tmp_path / "small.safetensors")
    with pytest.raises((ConversionError, WeightsError), match="is not a readable"):
        read_weights(str(tmp_path / "small.safetensors"))
