"""Converting, inspecting and verifying checkpoints, as `multifocal convert` does."""

import argparse
import os
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
from multifocal_jax.errors import UserError
from multifocal_jax.fast import scales
from multifocal_jax.interop import inputs, torch_network
from multifocal_jax.interop.architecture import models_of_shapes
from multifocal_jax.interop.bands import reorder_bands
from multifocal_jax.interop.conversion import read_weights, write_weights
from multifocal_jax.interop.conversion import torch_network as torch_network_with
from multifocal_jax.interop.foreign.matching import align
from multifocal_jax.interop.foreign.renaming import read_names
from multifocal_jax.interop.inputs import Inputs
from multifocal_jax.interop.names import parameters, to_flax_layout
from multifocal_jax.interop.torch_files import read_torch_checkpoint
from multifocal_jax.interop.verification import DERAINED, GRADIENTS, TorchSide, compare_programs, verify
from multifocal_jax.weights import WeightsError, flatten, load_weights
from tests.interop.foreign_network import ForeignNet, MistakenNet, Options, ScrambledNet, WrappedNet
from tests.interop.helpers import SWITCHES, TINY, VARIANTS, ask, flax_params, refuse, small

torch.set_num_threads(1)  # the networks are tiny; threads of PyTorch and JAX would only wait for each other

FOREIGN = Path(__file__).parent / "foreign_network.py"
ROOT = Path(__file__).parents[2]
LEGACY = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def twin(config: ModelConfig = TINY) -> torch_network.TorchNet:
    torch.manual_seed(0)
    return torch_network.TorchNet(config)


def save(content: object, legacy: bool = False, path: str = "in.pth") -> str:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def load(path: str) -> dict:
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.fixture
def source(inside) -> str:
    """A checkpoint of the twin."""
    return save(twin().state_dict())


def hidden(name: str) -> list[tuple[str, str]]:
    """What the tensors of a variant do not show."""
    fields = ("heads", "spp_sizes", "channel_softmax", "global_skip")
    given = {key: str(value) for key, value in SWITCHES[name].items() if key in fields}
    if SWITCHES[name].get("interaction") == "single_scale" or "pyramid" in SWITCHES[name]:
        given |= SWITCHES[name]
    return list(given.items())


@pytest.mark.parametrize("name", [name for name in VARIANTS if VARIANTS[name].modules])
def test_every_variant_goes_to_jax_and_back_unchanged(name):
    state = twin(VARIANTS[name]).state_dict()
    converted = read_weights(save(state), overrides=hidden(name))
    assert converted.weights.model == VARIANTS[name]
    write_weights("w.safetensors", converted.weights)
    again = read_weights("w.safetensors").weights
    assert again.model == VARIANTS[name]
    write_weights("out.pth", again)
    back = load("out.pth")
    assert set(back) == set(state)
    for key, value in state.items():
        assert torch.equal(back[key], value), key
    # What we wrote says itself which architecture it is.
    assert read_weights("out.pth").weights.model == VARIANTS[name]


def _wrapped(network: torch.nn.Module) -> dict[str, object]:
    state = network.state_dict()
    return {
        "plain": state,
        "state_dict": {"state_dict": state, "epoch": 700},
        "params": {"params": state},
        "params_ema": {"params": {key: value + 1 for key, value in state.items()}, "params_ema": state},
        "model": {"model": state, "optimizer": {"lr": 1e-4}},
        "nested": {"state_dict": {"model": state}},
        "beside_a_tensor": {"step": torch.tensor(7), "model": state},
        "averaged": torch.optim.swa_utils.AveragedModel(network).state_dict(),
        "data_parallel": {f"module.{key}": value for key, value in state.items()},
        "compiled_data_parallel": {"model": {f"module._orig_mod.{key}": value for key, value in state.items()}},
        "half": {key: value.half() for key, value in state.items()},
        "bfloat16": {key: value.bfloat16() for key, value in state.items()},
        "double": {key: value.double() for key, value in state.items()},
    }


@LEGACY
@pytest.mark.parametrize("wrapper", _wrapped(torch.nn.Module()))
def test_wrappers_prefixes_and_precisions(wrapper, legacy):
    network = twin(small())
    converted = read_weights(save(_wrapped(network)[wrapper], legacy))
    flat, state = flatten(converted.weights.params), network.state_dict()
    assert ("left out, as a wrapper's counter: n_averaged" in converted.notes) == (wrapper == "averaged")
    tolerance = {"half": 1e-3, "bfloat16": 1e-2}.get(wrapper, 0)
    for parameter in parameters(small()):
        found, expected = flat[parameter.flax], to_flax_layout(state[parameter.torch].numpy())
        assert found.dtype == (np.float64 if wrapper == "double" else np.float32)
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_an_entry_can_be_chosen_and_one_of_unknown_name_must_be():
    state = twin().state_dict()
    source = save({"params": state, "params_ema": {key: 0 * value for key, value in state.items()}})
    assert np.all(flatten(read_weights(source).weights.params)["fusion.merge.bias"] == 0)
    assert np.any(flatten(read_weights(source, key="params").weights.params)["fusion.merge.bias"])
    refuse("has no dictionary 'weights'; its entries: params, params_ema", source, key="weights", destination="o")
    source = save({"step": torch.tensor(7), "weights_of_700": state})
    refuse(r"weights_of_700 are not tensors; .* use --key ENTRY", source, destination="o")
    assert read_weights(source, key="weights_of_700").weights.model == TINY


@pytest.mark.parametrize("theirs", [{"dim": 64}, {"spp_sizes": 3}, {1: 2}, "wide", np.ones(2), {"pyramid": np.ones(2)}])
def test_somebody_elses_model_config_is_not_taken_for_ours(theirs):
    converted = read_weights(save({"state_dict": twin().state_dict(), "model_config": theirs}))
    assert converted.weights.model == TINY
    assert any(note.startswith("model_config is not used, as it is not this network's: ") for note in converted.notes)


def test_a_workdir_is_read_and_written(source):
    weights = read_weights(source).weights
    assert write_weights("workdir", weights) == Path("workdir", "weights.safetensors")
    assert load_weights("workdir/weights.safetensors").model == TINY
    assert read_weights("workdir").weights.model == TINY
    assert read_weights("demo").weights.record["name"] == "demo"
    Path("empty").mkdir()
    with pytest.raises(WeightsError, match=r"holds no weights\.safetensors"):
        read_weights("empty")
    write_weights("half.pth", weights, "float16")
    assert {value.dtype for value in load("half.pth").values()} == {torch.float16}


def test_every_missing_extra_and_misshapen_tensor_is_listed_and_nothing_is_written():
    state = dict(twin(small()).state_dict())
    del state["body.0.down.1.bias"], state["shallow.2.weight"]
    state["body.0.down.0.weight"] = state["body.0.down.0.weight"][:, :3]
    state["fusion.residual.bias"] = torch.zeros(4)
    state["discriminator.weight"] = torch.zeros(2, 2)
    state["body.0.norm.num_batches_tracked"] = torch.tensor(7)
    assert refuse("nothing was written", save(state), destination="out.safetensors").splitlines()[1:] == [
        "  missing (2):",
        "    shallow.2.weight (8, 3, 3, 3)",
        "    body.0.down.1.bias (8,)",
        "  extra (2): a line `NAME = -` in a file for --names drops one",
        "    discriminator.weight (2, 2)",
        "    body.0.norm.num_batches_tracked ()",
        "  misshapen (2):",
        "    body.0.down.0.weight is (8, 3, 3, 3), expected (8, 8, 3, 3)",
        "    fusion.residual.bias is (4,), expected (3,)",
    ]
    assert os.listdir() == ["in.pth"]


def _round() -> dict:
    content: dict[str, object] = {"epoch": 3}
    content["state_dict"] = {"again": content}
    return content


def _prenet() -> dict:
    """Tensors as PReNet has them (Ren et al., CVPR 2019)."""
    state = {"conv0.0.weight": torch.zeros(32, 6, 3, 3), "conv0.0.bias": torch.zeros(32)}
    for gate in "ifgo":
        state |= {f"conv_{gate}.0.weight": torch.zeros(32, 64, 3, 3), f"conv_{gate}.0.bias": torch.zeros(32)}
    return state | {"conv.0.weight": torch.zeros(3, 32, 3, 3), "conv.0.bias": torch.zeros(3)}


REFUSED = {
    "nan": (
        lambda: twin().state_dict() | {"fusion.residual.bias": torch.full((3,), torch.nan)},
        r"not finite in fusion\.residual\.bias",
    ),
    "integers": (lambda: {k: (100 * v).int() for k, v in twin().state_dict().items()}, r"in\.pth: .* is of type int32"),
    "pyramid": (lambda: twin(VARIANTS["model_2"]).state_dict(), "--model pyramid=gaussian or --model pyramid=average"),
    "no tensors": (lambda: {"epoch": 3, "lr": 0.1}, r"holds no tensors \(its entries: epoch, lr\)"),
    "list": (lambda: [1, 2], "holds a list"),
    "itself": (_round, "holds no tensors"),
    "sparse": (lambda: {"tail": torch.ones(2, 2).to_sparse()}, r"in\.pth: tail is not a plain tensor"),
    "meta": (lambda: {"tail": torch.empty(2, device="meta")}, r"in\.pth: tail is not a plain tensor"),
    "conjugate": (lambda: {"tail": torch.ones(2).to(torch.complex64).conj()}, r"in\.pth: tail is not a plain tensor"),
    "another network": (_prenet, r"another network: .* takes 6 channels"),
}


@LEGACY
@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_what_holds_no_weights_is_refused_before_it_is_verified(content, message, legacy):
    source = save(content(), legacy)
    refuse(message, source, verify=True)
    if content is _prenet:
        refuse(message, source, inspect=True)


def test_a_fixed_pyramid_can_be_named():
    source = save(twin(VARIANTS["model_2"]).state_dict())
    assert read_weights(source, overrides=[("pyramid", "average")]).weights.model == VARIANTS["model_2"]
    message = r"'?laplacian'?; allowed: '?learned'?, '?gaussian'?, '?average'?"
    refuse(message, source, model=[("pyramid", "laplacian")], verify=True)


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("was_run"),)


@LEGACY
def test_pickled_code_is_never_run(legacy):
    message = r"a pickle that calls builtins\.getattr, pathlib\.Path, which is not run"
    text = refuse(message, save({"state_dict": Evil()}, legacy), destination="o.safetensors")
    assert not Path("was_run").exists()
    assert "python" not in text  # no command, as that would run it


def _needing_code(network: torch.nn.Module) -> dict[str, object]:
    state = network.state_dict()
    history = np.array([Options()], dtype=object)
    return {
        "module": network,
        "module in an entry": {"epoch": 3, "model": network},
        "tensors beside an object": {"args": Options(), "state_dict": state},
        "tensors with an object": {**state, "options": Options()},
        "tensors beside an array with an object": {"history": history, "ema": {"net": state}},
    }


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")  # torch, on legacy files of modules
@LEGACY
@pytest.mark.parametrize("kind", _needing_code(torch.nn.Module()))
def test_what_needs_code_is_refused_with_a_command_that_works(kind, legacy):
    network = twin()
    Path("it's $HOME").mkdir()
    source = save(_needing_code(network)[kind], legacy, "it's $HOME/in.pth")
    text = refuse(r"pickled code .* which is not run", source, destination="o.safetensors")
    assert ("foreign_network.Options" if kind.endswith("object") else "torch_network.TorchNet") in text
    python, option, code = shlex.split(text.partition("make a plain one: ")[2])
    assert (python, option) == ("python", "-c")
    exec(code)  # what the command does, without the start of a process
    state = torch.load("state_dict.pth", weights_only=True)
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())
    assert len(state) == len(network.state_dict())


@LEGACY
def test_numpys_arrays_and_what_training_scripts_store_beside_the_tensors_are_read(legacy):
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
        found = read_torch_checkpoint(save(content, legacy)).tensors
        assert found.keys() == state.keys()
        assert all(np.array_equal(found[key], value) for key, value in state.items())


def test_a_flipped_bit_in_a_tensor_is_found_by_the_checksum(source):
    values = twin().state_dict()["fusion.merge.conv.weight"].numpy().tobytes()
    content = bytearray(Path(source).read_bytes())
    content[content.index(values) + 100] ^= 1
    Path(source).write_bytes(content)
    message = r"in\.pth is damaged: the checksum of in/data/\d+ in it is wrong"
    refuse(message, source, destination="o.safetensors")
    assert not Path("o.safetensors").exists()


def test_a_torchscript_program_is_refused():
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.script(torch.nn.Conv2d(3, 3, 1)).save("in.pth")
    refuse("TorchScript", "in.pth", destination="o.safetensors")


@pytest.mark.parametrize("content", [b"", b"nonsense" * 50, None], ids=["empty", "nonsense", "truncated"])
def test_damaged_files_are_refused(content, source):
    whole = Path(source).read_bytes()
    content = whole[: len(whole) // 2] if content is None else content
    Path(source).write_bytes(content)
    refuse("damaged or not a PyTorch checkpoint", source, destination="o.safetensors")
    Path("in.safetensors").write_bytes(content)
    save_safetensors({"x": torch.ones(2).to(torch.float8_e4m3fn)}, "float8.safetensors")
    for name, message in (
        ("nowhere.pth", r"nowhere\.pth' are neither a file nor a workdir nor packaged"),
        ("in.safetensors", r"not a readable \.safetensors file"),
        ("float8.safetensors", "is not a readable"),
    ):
        with pytest.raises(UserError, match=message):
            read_weights(name)


@pytest.fixture
def swapped_bands(monkeypatch):
    """PyTorch's network concatenates its wavelet bands in the other order."""
    right = torch_network.FeatureRecalibration.forward

    def swapped(self, x):
        ll, lh, hl, hh = right(self, x).chunk(4, dim=1)
        return torch.cat([ll, hl, lh, hh], dim=1)

    monkeypatch.setattr(torch_network.FeatureRecalibration, "forward", swapped)


@pytest.mark.parametrize("name", ["default", "model_3", "residual_blocks", "heads_2", "levels_2", "value_unprojected"])
def test_weights_trained_with_the_other_order_of_bands(name, request):
    other, ours = twin(VARIANTS[name]).double(), torch_network.TorchNet(VARIANTS[name]).double()
    converted = read_weights(save(other.state_dict()), overrides=hidden(name), band_order="LL,HL,LH,HH")
    write_weights("out.pth", converted.weights)
    ours.load_state_dict(load("out.pth"))
    images = torch.rand(1, 3, 24, 16, dtype=torch.float64)
    with torch.inference_mode():
        found, unswapped = ours(images), other(images)
        request.getfixturevalue("swapped_bands")
        expected = other(images)
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
        assert (unswapped - expected).abs().max() > 1e-6  # the order matters


@pytest.mark.usefixtures("swapped_bands")
def test_gradients_of_a_network_with_the_other_order_of_bands():
    other = twin().double()
    params = flax_params({name: value.numpy() for name, value in other.state_dict().items()}, TINY)
    params = reorder_bands(params, TINY, "LL,HL,LH,HH")
    named = dict(other.named_parameters())
    side = TorchSide(other, {p.flax: named[p.torch] for p in parameters(TINY)}, "LL,HL,LH,HH")
    crops = Inputs(np.zeros((1, 8, 8, 3)), crops=np.random.default_rng(0).random((1, 16, 24, 3)))
    with jax.enable_x64(True):
        (row,) = compare_programs(params, TINY, side, crops, "float64")
        assert row.relative < 1e-10, row
        (row,) = compare_programs(params, TINY, replace(side, band_order="LL,LH,HL,HH"), crops, "float64")
        assert row.relative > 1e-3


@pytest.fixture
def foreign(inside) -> str:
    torch.manual_seed(0)
    return save({"model": {f"module.{key}": value for key, value in ForeignNet().state_dict().items()}})


@pytest.fixture
def verify_on(monkeypatch):
    """Sets the inputs of verification, where a test is not about those of users."""

    def use(*given, **more):
        monkeypatch.setattr(inputs, "verification_inputs", lambda photograph: Inputs(*given, **more))

    use(np.random.default_rng(0).random((2, 21, 35, 3)))
    return use


def test_a_checkpoint_of_other_code_from_inspection_to_verified_weights(foreign, verify_on):
    refuse(r"under other names; .* --inspect", foreign, destination="o.safetensors")
    # A buffer that this network does not have, and that the user's network need not have either.
    save(torch.load(foreign)["model"] | {"module.dwt.filter": torch.ones(4, 1, 2, 2)})
    done, text = ask(foreign, inspect=True, write_names="names.txt")
    assert done
    assert "64 certain, 0 ambiguous" in text
    random = np.random.default_rng(0)
    photograph, crops = random.integers(0, 256, (1, 67, 123, 3), np.uint8), random.random((2, 96, 128, 3))
    verify_on(random.random((2, 21, 35, 3)), photograph, crops)  # the last two are processed in strips
    fields = {"names": "names.txt", "verify": True, "torch_module": f"{FOREIGN}:ForeignNet", "trace": True}
    done, text = ask(foreign, destination="o.safetensors", **fields)
    assert done, text
    assert "no block diverges" in text.splitlines()
    for row in ("output", DERAINED, GRADIENTS):
        assert f"\n{row} " in text
    assert load_weights("o.safetensors").model == ModelConfig(channels=8, modules=2)


def test_weights_go_back_to_the_other_code(foreign):
    ask(foreign, inspect=True, write_names="names.txt")
    with Path("names.txt").open("a") as file:
        file.write("dwt.filter = -\n")  # a buffer of which we know nothing
    state = torch.load(foreign, weights_only=True)["model"]
    save(state | {"module.dwt.filter": torch.ones(4)})
    fields = {"names": "names.txt", "band_order": "LL,HL,LH,HH"}
    ask(foreign, destination="ours.safetensors", **fields)
    ask("ours.safetensors", destination="theirs.pth", **fields)
    back = load("theirs.pth")
    assert {f"module.{key}" for key in back} == state.keys()
    assert all(torch.equal(back[key.removeprefix("module.")], value) for key, value in state.items())
    for destination in (None, "o.safetensors"):
        message = r"ours\.safetensors is this project's own, .* name a \.pth"
        refuse(message, "ours.safetensors", destination=destination, verify=True, names="names.txt")


@pytest.mark.usefixtures("verify_on")
@pytest.mark.parametrize("wrapper", ["", "module."])
def test_weights_go_back_to_a_class_with_a_prefix(wrapper):
    torch.manual_seed(0)
    state = WrappedNet().state_dict()
    source, place = save({wrapper + key: value for key, value in state.items()}), f"{FOREIGN}:WrappedNet"
    ask(source, inspect=True, write_names="names.txt")
    assert "net.tail.2 = fusion.residual" in Path("names.txt").read_text().splitlines()
    done, text = ask(source, destination="ours.safetensors", names="names.txt", verify=True, torch_module=place)
    assert done, text
    ask("ours.safetensors", destination="theirs.pth", names="names.txt")
    network = WrappedNet()
    network.load_state_dict(load("theirs.pth"))
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())
    # A class without the prefix, and a names file for it: what either of them writes is its own.
    ask(source, inspect=True, write_names="short.txt", torch_module=f"{FOREIGN}:ForeignNet")
    assert Path("short.txt").read_text() == Path("names.txt").read_text().replace("net.", "")
    for names in ("names.txt", "short.txt"):
        found = read_weights(source, renaming=read_names(names)).tensors
        assert np.array_equal(found["fusion.residual.bias"], state["net.tail.2.bias"])
    ask("ours.safetensors", destination="short.pth", names="short.txt")
    network.net.load_state_dict(load("short.pth"))


@pytest.mark.parametrize(
    ("options", "block", "explanation"),
    [
        *(
            (
                {"mistake": "activation", "projection": projection},
                "module_1.channel.level_0.key input",
                "in what feeds module_1.channel.level_0.key: the activation after the down convolution",
            )
            for projection in ("conv2d", "linear")
        ),
        (
            {"mistake": "padding"},
            "module_1.down_1 output",
            "in the convolution module_1.down_1: its input has another shape there "
            "(shapes (2, 12, 20, 8) and (2, 13, 21, 8))",
        ),
    ],
    ids=["activation", "linear", "padding"],
)
@pytest.mark.usefixtures("verify_on")
def test_the_first_diverging_block_of_a_users_network_is_found(options, block, explanation):
    torch.manual_seed(0)
    source = save(MistakenNet(**options).state_dict())
    ask(source, inspect=True, write_names="names.txt")
    fields = {"torch_module": f"{FOREIGN}:MistakenNet", "torch_args": options, "trace": True}
    done, text = ask(source, destination="o.pth", names="names.txt", **fields)
    assert not done
    assert not Path("o.pth").exists()
    (marked,) = (line for line in text.splitlines() if "<<<" in line)
    assert marked.startswith(f"{block} ")
    assert f"the first divergence is {explanation}" in text


@pytest.mark.parametrize(
    "options", [{"bias": False}, {"projection": "linear"}, {"projection": "conv1d", "bias": False}]
)
def test_projections_without_biases_or_of_other_layers_are_converted_and_verified(options, verify_on):
    random = np.random.default_rng(0)
    verify_on(random.random((2, 21, 35, 3)), crops=random.random((1, 16, 24, 3)))
    torch.manual_seed(0)
    network = ForeignNet(**options)
    source = save(network.state_dict())
    refuse(r"under other names; .* --inspect", source, destination="o.safetensors")
    assert "64 certain, 0 ambiguous" in ask(source, inspect=True, write_names="names.txt")[1]
    fields = {"torch_module": f"{FOREIGN}:ForeignNet", "torch_args": options, "verify": True, "trace": True}
    done, text = ask(source, destination="o.safetensors", names="names.txt", **fields)
    assert done, text
    assert "no block diverges" in text.splitlines()
    assert f"\n{GRADIENTS} " in text
    assert "shapes" not in text  # every convolution is compared
    assert "was not called" not in text
    zeros = "45 convolutions have no bias, for which zeros are used: body.0.spatial.0.value.conv, "
    assert (zeros in text) == (not options.get("bias", True))
    converted = read_weights(source, renaming=read_names("names.txt"))
    with torch.inference_mode():
        images = torch.rand(1, 3, 16, 24)
        found = torch_network_with(converted.weights, converted.tensors)(images)
        torch.testing.assert_close(found, network(images))


@pytest.mark.usefixtures("verify_on")
@pytest.mark.parametrize("options", [{}, {"projection": "linear"}, {"projection": "conv1d", "bias": False}])
def test_scrambled_names_are_ambiguous_until_activations_settle_them(options):
    torch.manual_seed(0)
    network = ScrambledNet(**options)
    source, user = save(network.state_dict()), {"torch_module": f"{FOREIGN}:ScrambledNet", "torch_args": options}
    assert "2 certain, 62 ambiguous" in ask(source, inspect=True)[1]
    assert "64 certain, 0 ambiguous" in ask(source, inspect=True, write_names="names.txt", **user)[1]
    assert ask(source, destination="o.pth", names="names.txt", verify=True, **user)[0]
    # The same weights in the same places as the names of the unscrambled network say.
    plain = {key: network.w[network.order.index(key.rpartition(".")[0])] for key in network.inner.state_dict()}
    shapes = {key: tuple(value.shape) for key, value in network.inner.state_dict().items()}
    state = load("o.pth")
    for match in align(shapes, models_of_shapes(shapes)[0][0]).matches:
        found, expected = state[f"{match.ours.torch}.weight"], plain[f"{match.theirs}.weight"].weight
        assert torch.equal(found, expected.view_as(found)), match.ours.flax


def test_settling_says_where_the_networks_differ():
    source = save(ScrambledNet(heads=2).state_dict())
    fields = {"inspect": True, "torch_module": f"{FOREIGN}:ScrambledNet", "torch_args": {"heads": 2}}
    refuse(r"module_0\.channel\.level_0 .*--model NAME=VALUE", source, **fields)
    assert ask(source, model=[("heads", "2")], **fields)[0]


NEIGHBOURS = """
from __future__ import annotations
from dataclasses import dataclass
from torch import nn
from parts import WIDTH

@dataclass
class Options:
    width: int = WIDTH

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(3, Options().width, 3)
"""


@pytest.mark.parametrize(
    ("place", "arguments", "message"),
    [
        ("nowhere.py:Net", {}, r"no file 'nowhere\.py' exists"),
        ("net.py", {}, r"--torch-module net\.py: the class is missing; expected FILE\.py:CLASS"),
        ("net.py:", {}, "the class is missing"),
        (f"{FOREIGN}:Nothing", {}, "has no Nothing; its classes: .*ForeignNet"),
        (f"{FOREIGN}:ForeignNet", {"width": 3}, "making ForeignNet raised TypeError"),
        (f"{FOREIGN}:ForeignNet", {"blocks": 3}, r"missing blocks\.2\."),
        (
            f"{FOREIGN}:ForeignNet",
            {"dim": 16},
            r"misshapen tail\.0\.weight: \(8, 24, 3, 3\), expected \(16, 48, 3, 3\)",
        ),
        ("net.py:Net", {}, r"missing one\.weight"),  # may import its neighbours and hold dataclasses
    ],
)
def test_what_is_wrong_with_a_users_module_is_said_in_one_message(place, arguments, message, foreign):
    Path("parts.py").write_text("WIDTH = 8\n")
    Path("net.py").write_text(NEIGHBOURS)
    refuse(message, foreign, inspect=True, torch_module=place, torch_args=arguments)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "nothing to do"),
        ({"trace": True}, "--torch-module"),
        ({"torch_module": "a.py:B", "destination": "x.pth"}, "needs --verify, --trace or --inspect"),
        ({"write_names": "n.txt", "destination": "x.pth"}, "add --inspect"),
        ({"inspect": True, "destination": "x.pth"}, r"--inspect converts nothing .*: leave out x\.pth"),
        ({"inspect": True, "verify": True}, "verifies nothing: leave out --verify"),
        ({"image": "photo.jpg", "destination": "x.pth"}, "--image is .*: add --verify"),
        ({"torch_args": {"dim": 8}, "verify": True}, r"--torch-args are .*: name it by --torch-module FILE\.py:CLASS"),
        ({"dtype": "float16", "verify": True}, "--dtype is .*: name a DESTINATION"),
        ({"destination": "out.h5"}, r"cannot write \.h5"),
        ({"destination": "no/out.pth"}, "does not exist"),
    ],
)
def test_contradictory_requests_are_refused(fields, message):
    refuse(message, "in.pth", **fields)


def test_nothing_is_overwritten_unasked(source):
    out = Path("out.safetensors")
    out.write_text("precious")
    refuse("--overwrite replaces it", source, destination=str(out))
    assert out.read_text() == "precious"
    assert ask(source, destination=str(out), overwrite=True)[0]
    assert load_weights(out).model == TINY


def test_the_entry_point_converts_and_reports_errors_as_one_line(source, monkeypatch, capsys):
    def convert(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["convert_weights.py", source, *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "convert_weights.py"), run_name="__main__")
        return ended.value.code

    assert convert("o.safetensors") == 0
    assert "wrote" in capsys.readouterr().out
    assert convert() == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: nothing to do")
    assert len(shown.splitlines()) == 1


def test_an_error_in_what_derain_runs_is_found_and_nothing_is_written(source, verify_on, monkeypatch):
    # Of a size that is processed in two strips.
    verify_on(np.zeros((1, 8, 8, 3)), np.random.default_rng(0).integers(0, 256, (1, 96, 128, 3), np.uint8))
    right = scales._merge_strips
    monkeypatch.setattr(scales, "_merge_strips", lambda *given: 1.05 * right(*given))
    done, text = ask(source, destination="out.safetensors", verify=True)
    assert not done
    assert text.endswith("\nout.safetensors was not written")
    assert not Path("out.safetensors").exists()
    marked = [line for line in text.splitlines() if "<<<" in line]
    assert len(marked) == 2
    assert all(line.startswith("output as `derain` computes it ") for line in marked)


def test_verification_shows_what_derain_and_training_run(source):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)).save("mine.png")
    done, text = ask(source, verify=True, image="mine.png")
    assert done
    double, single = text.split("\n\n")
    assert "1×193×321" in double
    assert "\noutput as `derain` computes it " in double
    assert re.search(r"\ngradients as training computes them .* largest at \S+\.(kernel|bias)\n", double)
    assert "\noutput as `derain` computes it " in single
    assert "gradients" not in single  # which rounding changes by too much


def test_a_network_that_computes_no_gradients_can_be_verified_all_the_same(source, verify_on):
    verify_on(np.zeros((1, 8, 8, 3)), crops=np.zeros((1, 8, 8, 3)))
    Path("net.py").write_text(
        "import torch\nfrom multifocal_jax.interop.torch_network import TorchNet\n"
        "from tests.interop.helpers import TINY\n\n"
        "class Net(TorchNet):\n    def __init__(self):\n        super().__init__(TINY)\n"
        "    @torch.no_grad()\n    def forward(self, x):\n        return super().forward(x)\n"
    )
    done, text = ask(source, verify=True, torch_module="net.py:Net")
    assert done, text
    assert "the network computes none: not judged" in text


@pytest.mark.usefixtures("verify_on")
@pytest.mark.parametrize("pyramid", ["learned", "gaussian"])
def test_verification_uses_the_checkpoints_own_tensors(pyramid):
    source, model = save(twin(replace(TINY, pyramid=pyramid)).double().state_dict()), [("pyramid", pyramid)]
    done, text = ask(source, verify=True, model=model)
    assert done, text
    assert text.count("agree: largest relative difference") == 2
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
