"""The JAX network against the PyTorch one: every block, gradients, ten steps of training."""

import numpy as np
import pytest
import torch

from multifocal_jax.config import ModelConfig
from multifocal_jax.fast import spatial_attention
from multifocal_jax.fast.rows import CPU_STRIP, strip_height, whole_strip_height
from multifocal_jax.interop import torch_network
from multifocal_jax.interop.inputs import Inputs, verification_inputs
from multifocal_jax.interop.intermediates import torch_intermediates
from multifocal_jax.interop.running import to_torch
from multifocal_jax.interop.verification import DERAINED, GRADIENTS, verify
from multifocal_jax.padding import pad_to_multiple
from multifocal_jax.weights import flatten
from tests.golden.interop import make_fixtures
from tests.interop.helpers import TINY, VARIANTS, each_variant, flax_params, small, ten_adam_steps

torch.set_num_threads(1)  # the networks are tiny; threads of PyTorch and JAX would only wait for each other


def random_network(config: ModelConfig, seed: int = 0) -> torch_network.TorchNet:
    torch.manual_seed(seed)
    return torch_network.TorchNet(config).double()


def params_of(network: torch_network.TorchNet) -> dict:
    return flax_params({name: value.numpy() for name, value in network.state_dict().items()}, network.config)


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape)


@pytest.mark.parametrize("name", each_variant())
def test_every_block_agrees_in_float64(name):
    network = random_network(VARIANTS[name])
    comparison = verify(params_of(network), network, Inputs(picture(2, 13, 26, 3)))
    assert comparison.tolerance == 1e-10
    assert comparison.checked == {row.name for row in comparison.rows}
    assert comparison.ok, comparison.table()


@pytest.mark.parametrize("name", each_variant(("default", "model_4")))
def test_output_agrees_in_float32(name):
    network = random_network(VARIANTS[name], seed=1)
    comparison = verify(params_of(network), network, Inputs(picture(2, 21, 34, 3)), "float32")
    assert comparison.tolerance == 1e-5
    assert comparison.checked == {"output"}
    assert comparison.ok, comparison.table()


@pytest.mark.parametrize(
    ("modules", "precision"),
    [(1, "float64"), *(pytest.param(8, precision, marks=pytest.mark.slow) for precision in ("float64", "float32"))],
)
def test_the_papers_network_agrees(modules, precision):
    network = random_network(ModelConfig(modules=modules))
    comparison = verify(params_of(network), network, Inputs(picture(1, 23, 16, 3)), precision)
    assert comparison.ok, comparison.table()


# Every switch that the paper leaves open; test_torch_convert.py verifies the default with two modules every time.
@pytest.mark.parametrize("name", each_variant(("open_switches",)))
def test_what_derain_and_training_run_agrees_in_float64(name):
    random = np.random.default_rng(0)
    photograph, crops = random.integers(0, 256, (1, 67, 123, 3), np.uint8), random.random((2, 96, 128, 3))
    # Both in strips of rows, also where that keeps gradients: 9,216 and 12,288 pixels, of 8,192 to a strip.
    assert strip_height(72, 128, CPU_STRIP) == 64
    assert whole_strip_height(96, 128, CPU_STRIP, 2) == 48
    network = random_network(VARIANTS[name])
    comparison = verify(params_of(network), network, Inputs(picture(1, 8, 8, 3), photograph, crops))
    assert {DERAINED, GRADIENTS, "output"} <= comparison.checked
    assert comparison.ok, comparison.table()


def test_the_inputs_are_noise_and_a_photograph_of_odd_sizes_that_strips_are_used_for():
    inputs = verification_inputs()
    assert inputs.photograph.dtype == np.uint8
    for images in (inputs.batch, inputs.photograph):
        assert images.shape[1] % 2 == images.shape[2] % 2 == 1
    noise, other, photograph = inputs.batch
    assert noise.std() == pytest.approx(12**-0.5, rel=0.02)  # of a uniform distribution
    assert not np.array_equal(noise, other)
    np.testing.assert_allclose(photograph.mean(), inputs.photograph.mean() / 255, atol=0.02)
    for level in (0, 1):
        _, height, width, _ = (side >> level for side in pad_to_multiple(inputs.photograph, 8).shape)
        assert strip_height(height, width, CPU_STRIP) < height
    assert str(inputs) == ("inputs (batch × height × width) 3×43×61 and for derain 1×241×321 and for training 2×96×128")


def test_an_error_in_gradients_alone_is_found(monkeypatch):
    network = random_network(TINY)
    right = spatial_attention.attention_gradients

    def wrong(*given):
        of_picture, *others = right(*given)
        return 1.001 * of_picture, *others

    monkeypatch.setattr(spatial_attention, "attention_gradients", wrong)
    comparison = verify(params_of(network), network, Inputs(picture(1, 8, 8, 3), crops=picture(1, 16, 24, 3)))
    assert comparison.first_over is comparison.rows[-1]
    assert comparison.rows[-1].name == GRADIENTS


def test_the_first_block_that_differs_is_named():
    network = random_network(VARIANTS["modules_2"])
    params = params_of(network)
    params["module_1"]["channel"]["level_1"]["key"]["kernel"] *= 1.001
    comparison = verify(params, network, Inputs(picture(2, 13, 26, 3)))
    assert comparison.first_over is not None
    assert comparison.first_over.name == "module_1.channel.level_1.pooled_key"
    marked = [line for line in comparison.table().splitlines() if "<<<" in line]
    assert len(marked) == 1
    assert marked[0].startswith("module_1.channel.level_1.pooled_key ")


def test_padding_to_a_multiple_is_pytorchs_reflection():
    network = random_network(small())
    images = picture(1, 21, 35, 3)
    with torch.inference_mode():
        theirs = torch_network.derain(network, to_torch(images))
        ours = network(to_torch(pad_to_multiple(images, 8)))
    assert torch.equal(theirs, ours[..., :21, :35])
    with pytest.raises(ValueError, match=r"call derain\(network, rainy\), which pads"):
        network(to_torch(images))


def test_ten_adam_steps_give_the_same_parameters():
    network = random_network(small())
    _, ours = ten_adam_steps(network.config, params_of(network))
    _, theirs = make_fixtures.ten_adam_steps(network)
    ours = flatten(ours)
    for name, expected in theirs.items():
        assert np.abs(ours[name] - expected).max() < 1e-8, name


@pytest.mark.parametrize("name", ["default", "model_3", "open_switches"])
def test_fused_attention_is_the_same_network(name):
    plain = random_network(VARIANTS[name])
    fused = torch_network.TorchNet(VARIANTS[name], fused=True).double()
    fused.load_state_dict(plain.state_dict())
    images = to_torch(picture(2, 24, 16, 3))
    with torch.inference_mode():
        torch.testing.assert_close(fused(images), plain(images), rtol=1e-12, atol=1e-12)


def test_channels_last_and_autocast_stay_close_and_attention_maps_in_float32():
    network = random_network(small()).float()
    images = to_torch(picture(2, 24, 16, 3)).float()
    kept = []
    with torch.inference_mode():
        plain = network(images)
        last = network.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
        torch.testing.assert_close(last, plain, rtol=1e-5, atol=1e-5)
        network.entrance.get_submodule("0.softmax").register_forward_hook(lambda module, inputs, out: kept.append(out))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = network(images)
    assert (half - plain).abs().max() < 0.05
    assert kept[0].dtype == torch.float32


def test_hooks_are_removed():
    network = random_network(small())
    torch_intermediates(network, picture(1, 16, 16, 3))
    assert not any(module._forward_hooks for module in network.modules())
