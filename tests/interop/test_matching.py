"""Tensors of other code for the same network: which is which, and what is certain."""

import random
import re

import pytest

from multifocal_jax.config import ModelConfig
from multifocal_jax.interop.architecture import infer_model, models_of_shapes, why_another_network
from multifocal_jax.interop.foreign.matching import align, report
from multifocal_jax.interop.foreign.patterns import generalise, names_file
from multifocal_jax.interop.foreign.renaming import read_names
from multifocal_jax.interop.foreign.vocabulary import describe_names, tokens
from multifocal_jax.interop.names import convolutions, parameters
from tests.interop.helpers import VARIANTS


def non_local_style(name: str) -> str:
    """Blocks outermost and counted from 1, scales as s1, s2, s4, theta, phi, g."""
    name = re.sub(r"entrance\.pyramid\.reduce_(\d)", r"pyr.k\1", name)
    name = re.sub(r"entrance\.shallow_(\d)", r"head.conv_S\1", name)
    name = re.sub(r"entrance\.spatial\.level_(\d)", r"head.sa_S\1", name)
    name = re.sub(r"module_(\d+)", lambda m: f"blocks.{int(m[1]) + 1}", name)
    name = re.sub(r"(s|c)(?:patial|hannel)\.level_(\d)", r"\1a_S\2", name)
    name = re.sub(r"(down|up)_(\d)", r"\1_S\2.0", name)
    name = re.sub(r"S(\d)", lambda m: f"s{2 ** int(m[1])}", name)
    name = name.replace("query", "theta").replace("key", "phi").replace("value", "g")
    return name.replace("fusion.merge", "tail.0").replace("fusion.residual", "tail.2")


def camel_style(name: str) -> str:
    """Scales outermost and in words, camel case, Q, K, V."""
    name = re.sub(r"entrance\.pyramid\.reduce_(\d)", r"adaptiveKernel\1", name)
    name = re.sub(r"entrance\.shallow_(\d)", r"Net\1.firstConv", name)
    name = re.sub(r"entrance\.spatial\.level_(\d)\.(.)\w*", r"Net\1.entranceSpatial.conv_\2", name)
    cssab = r"Net\3.basicModule\1.\2CSSAB.conv_\4"
    name = re.sub(r"module_(\d+)\.(spatial|channel)\.level_(\d)\.(.)\w*", cssab, name)
    name = re.sub(r"module_(\d+)\.(down|up)_(\d)", r"Net\3.basicModule\1.\2Conv", name)
    name = re.sub(r"conv_(.)", lambda m: f"conv{m[1].upper()}", name)
    return re.sub(r"Net(\d)", lambda m: f"{('large', 'mid', 'small')[int(m[1])]}Net", name)


def flat_style(name: str) -> str:
    """Underscores only, scale before module."""
    name = re.sub(r"module_(\d+)\.(spatial|channel)\.level_(\d)\.(.)\w*", r"scale\3_module\1_\2_attention_w_\4", name)
    name = re.sub(r"module_(\d+)\.(down|up)_(\d)", r"scale\3_module\1_\2sample", name)
    return name.replace(".", "_")


STYLES = {"non_local": non_local_style, "camel": camel_style, "flat": flat_style}


def shapes_of(names, config, seed=None):
    convs = list(zip(names, convolutions(config), strict=True))
    if seed is not None:
        random.Random(seed).shuffle(convs)
    found = {}
    for name, conv in convs:
        found |= {f"{name}.weight": conv.torch_shape, f"{name}.bias": (conv.outputs,)}
    return found


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(),
        ModelConfig(channels=16, modules=3),
        ModelConfig(channels=16, modules=1),
        ModelConfig(channels=8, modules=2, interaction="spatial"),
        ModelConfig(channels=8, modules=2, interaction="channel"),
        ModelConfig(channels=8, modules=4, projection_kernel=3),
        ModelConfig(channels=8, modules=2, interaction="convolution"),
    ],
)
def test_other_styles_in_another_order_are_mapped_right(style, config, tmp_path):
    names = {conv.flax: STYLES[style](conv.flax) for conv in convolutions(config)}
    shapes = shapes_of(names.values(), config, seed=1)
    assert config in models_of_shapes(shapes)[0]
    alignment = align(shapes, config)
    assert {match.ours.flax: match.theirs for match in alignment.matches} == names
    assert all(match.certain for match in alignment.matches), report(alignment, shapes)
    assert alignment.left_over == ()
    # The proposed file says the same.
    path = tmp_path / "names.txt"
    path.write_text(names_file(alignment, "test"), encoding="utf-8")
    renaming = read_names(path)
    for parameter, conv in zip(parameters(config)[::2], convolutions(config), strict=True):
        assert renaming.rename(f"{names[conv.flax]}.weight")[0] == parameter.torch


def test_the_proposed_file_is_short_where_names_follow_patterns():
    config = ModelConfig()
    names = [non_local_style(conv.flax) for conv in convolutions(config)]
    text = names_file(align(shapes_of(names, config), config), "test")
    assert "blocks.{m+1}.sa_s{l^2}.theta = module_{m}.spatial.level_{l}.query" in text.splitlines()
    assert len(text.splitlines()) < 20


@pytest.mark.parametrize("seed", [None, 3])
def test_with_scrambled_names_only_unique_shapes_are_certain(seed):
    config = ModelConfig(channels=8, modules=2)
    names = [f"weights.{random.Random(i).randrange(10**9):x}" for i in range(len(convolutions(config)))]
    shapes = shapes_of(names, config, seed)
    alignment = align(shapes, config)
    unique = {"fusion.merge", "fusion.residual"}
    assert {match.ours.flax for match in alignment.matches if match.certain} == unique
    if seed is None:  # in our own order: the order of the file is followed
        assert [match.theirs for match in alignment.matches] == names
    text = names_file(alignment, "test")
    assert text.count("# ambiguous") == len(names) - len(unique)
    assert "2 certain" in report(alignment, shapes)


def test_bare_numbers_for_as_many_modules_as_levels_are_not_guessed():
    config = ModelConfig(channels=8, modules=3)

    def bare(name):
        return re.sub(r"module_(\d+)\.(spatial|channel)\.level_(\d)\.(.)\w*", r"net.\3.\1.\2.w_\4", name)

    alignment = align(shapes_of([bare(conv.flax) for conv in convolutions(config)], config, 0), config)
    wrong = [match for match in alignment.matches if match.theirs != bare(match.ours.flax)]
    assert wrong
    assert not any(match.certain for match in wrong)


def test_tokens_are_words_and_numbers():
    assert tokens("blocks.3.toQ_2x") == ["blocks", 3, "to", "q", 2, "x"]
    assert tokens("SCSSAB2.convThird") == ["scssab", 2, "conv", 3]


def test_what_names_say_is_read():
    config = ModelConfig(channels=8, modules=2)
    names = [f"body.{m}.spatial.{s}.{role}" for m in (1, 2) for s in (1, 2, 4) for role in ("q", "k", "v")]
    described = describe_names(names, config)
    expected = {"stage": "body", "kind": "spatial", "role": "value", "module": 1, "level": 2}
    assert described["body.2.spatial.4.v"] == expected


def test_patterns_are_folded_only_where_numbers_follow():
    assert generalise([("a.1.x", "module_0.down_0"), ("a.2.x", "module_1.down_0")]) == [
        ("a.{m+1}.x", "module_{m}.down_0")
    ]
    crossed = [("a.1", "module_1.down_0"), ("a.2", "module_0.down_0")]
    assert generalise(crossed) == crossed


@pytest.mark.parametrize("name", [name for name in VARIANTS if VARIANTS[name].modules])
def test_the_architecture_is_read_off_the_tensors(name):
    config = VARIANTS[name]
    shapes = {parameter.torch: parameter.torch_shape for parameter in parameters(config)}
    fixed = {"model_1": [("pyramid", "gaussian")], "model_2": [("pyramid", "average")]}.get(name, [])
    model, assumed = infer_model(shapes, fixed)
    hidden = {field: getattr(config, field) for field in assumed}
    assert vars(model) | hidden == vars(config)
    assert "global_skip" in assumed
    assert ("heads" in assumed) == (config.interaction in ("cross_scale", "single_scale", "channel"))


def as_linear_layers(shapes, without):
    """With kernels as linear layers have them, and without the biases of those that match."""
    kept = {name: shape for name, shape in shapes.items() if not re.search(rf"({without}).*\.bias$", name)}
    return {name: shape[:2] if shape[2:] == (1, 1) else shape for name, shape in kept.items()}


@pytest.mark.parametrize("without", ["query|key|value", r"channel.*value", "", "nothing"])
@pytest.mark.parametrize("name", [name for name in VARIANTS if VARIANTS[name].modules])
def test_linear_layers_and_missing_biases_leave_the_architecture_as_it_is(name, without):
    shapes = {parameter.torch: parameter.torch_shape for parameter in parameters(VARIANTS[name])}
    theirs, expected = as_linear_layers(shapes, without), models_of_shapes(shapes)[0]
    assert models_of_shapes(theirs) == (expected, [])
    if VARIANTS[name].levels > 1:
        theirs["dwt.filter"] = 4, 1, 2, 2
        assert models_of_shapes(theirs) == (expected, ["dwt.filter"])
        # Normalisation in place of biases makes another network.
        theirs["norm.weight"] = theirs["norm.bias"] = (VARIANTS[name].channels,)
        assert models_of_shapes(theirs) == ([], [])


def test_linear_layers_of_one_kind_of_interaction_are_not_left_over():
    # The spatial half alone would be a network of table 1, if the channel half's kernels counted for nothing.
    shapes = {parameter.torch: parameter.torch_shape for parameter in parameters(VARIANTS["modules_2"])}
    theirs = {name: shape[:2] if ".channel." in name else shape for name, shape in shapes.items()}
    theirs = {name: shape for name, shape in theirs.items() if not re.search(r"\.channel\..*bias", name)}
    assert models_of_shapes(theirs) == models_of_shapes(shapes)


def test_another_network_is_told_apart_in_words():
    shapes = {"conv0.0.weight": (32, 6, 3, 3), "conv0.0.bias": (32,), "conv.0.weight": (3, 32, 3, 3)}
    assert models_of_shapes(shapes) == ([], [])
    assert "conv0.0.weight, the first kernel, takes 6 channels" in why_another_network(shapes)
