"""Names and shapes of all parameters; names files."""

import numpy as np
import pytest

from multifocal_jax.interop.errors import ConversionError
from multifocal_jax.interop.foreign.renaming import read_names
from multifocal_jax.interop.names import flax_to_torch, parameters, to_flax_layout, to_torch_layout
from multifocal_jax.models import parameter_shapes
from multifocal_jax.weights import flatten
from tests.interop.helpers import VARIANTS, each_variant, small

# Those of the default's parameters are left to `make stress`.
OTHERS = [name for name in VARIANTS if parameters(VARIANTS[name]) != parameters(VARIANTS["default"])]


@pytest.mark.parametrize("name", each_variant(("default", *OTHERS)))
def test_names_and_shapes_are_those_of_the_jax_network(name):
    config = VARIANTS[name]
    found = {parameter.flax: parameter.flax_shape for parameter in parameters(config)}
    assert found == {key: value.shape for key, value in flatten(parameter_shapes(config)).items()}
    assert len({parameter.torch for parameter in parameters(config)}) == len(found)


@pytest.mark.parametrize(
    ("flax", "torch"),
    [
        ("module_0.spatial.level_0.query.kernel", "body.0.spatial.0.query.conv.weight"),
        ("module_11.channel.level_2.value.bias", "body.11.channel.2.value.conv.bias"),
        ("entrance.pyramid.reduce_1.kernel", "pyramid.filters.0.weight"),
        ("module_3.residual_1b_2.bias", "body.3.residual.2.1.conv2.bias"),
        ("fusion.merge", "fusion.merge.conv"),
        ("fusion.residual.kernel", "fusion.residual.weight"),
        ("somebody.elses.weight", "somebody.elses.weight"),
    ],
)
def test_names_by_hand(flax, torch):
    assert flax_to_torch(flax) == torch


def test_layouts_are_inverse_and_move_axes_as_stated():
    oihw = np.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7)
    hwio = to_flax_layout(oihw)
    assert hwio.shape == (5, 7, 3, 2)
    assert hwio[4, 1, 2, 0] == oihw[0, 2, 4, 1]
    np.testing.assert_array_equal(to_torch_layout(hwio), oihw)


@pytest.fixture
def names(tmp_path):
    """Reads a names file of this text."""

    def read(text):
        (tmp_path / "names.txt").write_text(text, encoding="utf-8")
        return read_names(tmp_path / "names.txt")

    return read


RULES = """
# another code base
blocks.{m+1}.sa_x{l^2}.theta = module_{m}.spatial.level_{l}.query   # levels are called x1, x2, x4
head.{l}.weight = entrance.shallow_{l}.kernel
tail.2 = fusion.residual
merging.bias = fusion.merge.conv.bias
dwt.{n}.filter = -
"""


def test_a_names_file_maps_patterns(names):
    renaming = names(RULES)
    for theirs, ours in {
        "blocks.3.sa_x4.theta.bias": "body.2.spatial.2.query.conv.bias",
        "blocks.1.sa_x1.theta.weight": "body.0.spatial.0.query.conv.weight",
        "head.1.weight": "shallow.1.weight",
        "tail.2.bias": "fusion.residual.bias",
        # Numbers so large that nothing can be tried one by one.
        "blocks.20261128175200.sa_x2.theta.bias": "body.20261128175199.spatial.1.query.conv.bias",
        "blocks.1.sa_x20261128175200.theta.bias": "blocks.1.sa_x20261128175200.theta.bias",
    }.items():
        assert renaming.rename(theirs)[0] == ours
    assert renaming.rename("blocks.3.sa_x3.theta.bias") == ("blocks.3.sa_x3.theta.bias", 0)
    assert renaming.rename("head.1.bias") == ("head.1.bias", 0)


def test_a_names_file_leads_back_to_their_names(names):
    renaming = names(RULES)
    theirs = renaming.restore("w.safetensors", small(modules=3))
    for ours, name in {
        "body.2.spatial.2.query.conv.bias": "blocks.3.sa_x4.theta.bias",
        "body.0.spatial.0.query.conv.weight": "blocks.1.sa_x1.theta.weight",
        "shallow.1.weight": "head.1.weight",
        "shallow.1.bias": "shallow.1.bias",  # which no line maps
        "fusion.residual.weight": "tail.2.weight",
        "fusion.merge.conv.bias": "merging.bias",
        "fusion.merge.conv.weight": "fusion.merge.conv.weight",
    }.items():
        assert theirs[ours] == name
    assert {renaming.rename(name)[0] for name in theirs.values()} == theirs.keys()


def test_all_bad_lines_of_a_names_file_are_listed(names):
    with pytest.raises(ConversionError) as error:
        names("a b = c\nx.{m} = module_{n}.down_0\nno equals sign\n")
    for line in ("line 1", "line 2", "line 3"):
        assert line in str(error.value)


def test_a_names_file_may_begin_with_a_byte_order_mark_and_must_exist(names, tmp_path):
    assert names("\ufefftail = fusion.residual\n").rename("tail.bias")[0] == "fusion.residual.bias"
    with pytest.raises(ConversionError, match=r"names file .*nowhere\.txt cannot be read"):
        read_names(tmp_path / "nowhere.txt")


def test_a_dash_drops_tensors(names, tmp_path):
    renaming = names("dwt.{n}.filter = -\nloss = -\ntail = fusion.residual\n")
    theirs = ("dwt.0.filter", "dwt.1.filter", "loss.weight", "loss.bias", "tail.bias")
    renamed, count = renaming.apply(tmp_path / "x.pth", {name: np.zeros(1) for name in theirs})
    assert list(renamed) == ["fusion.residual.bias"]
    assert count == 1


def test_lines_that_fit_nothing_and_names_that_collide_are_listed(names, tmp_path):
    renaming = names("a = fusion.merge\nb = fusion.merge\nc = fusion.residual\n")
    with pytest.raises(ConversionError) as error:
        renaming.apply(tmp_path / "x.pth", {"a.weight": np.zeros(1), "b.weight": np.zeros(1)})
    assert "a.weight and b.weight both become fusion.merge.conv.weight" in str(error.value)
    assert "line 3 (c) fits no tensor" in str(error.value)


def test_names_that_do_not_lead_back_are_listed(names):
    lossy = names("x{n}.conv{k} = module_{n}.down_0\n")
    with pytest.raises(ConversionError, match=r"on w\.safetensors; .*\n  line 1 .*: k does not occur on our side"):
        lossy.restore("w.safetensors", small())
    taken = names("a = fusion.residual\nshallow.0 = fusion.merge\nb = module_9.down_0\n")
    with pytest.raises(ConversionError) as error:
        taken.restore("w.safetensors", small())
    assert "no line gives shallow.0.weight, and shallow.0.weight is another's name" in str(error.value)
    assert "line 3 (b = module_9.down_0) fits no tensor" in str(error.value)


def test_our_own_names_pass_through(names, tmp_path):
    renaming = names("tail = fusion.residual\n")
    tensors = {parameter.torch: np.zeros(1) for parameter in parameters(small())}
    tensors["tail.weight"] = tensors.pop("fusion.residual.weight")
    renamed, count = renaming.apply(tmp_path / "x.pth", tensors)
    assert count == 1
    assert set(renamed) == {parameter.torch for parameter in parameters(small())}
