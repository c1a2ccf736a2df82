"""The JAX network against the PyTorch one: every block, gradients, ten steps of training."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from multifocal_jax.config import ModelConfig, TrainConfig
from multifocal_jax.fast import spatial_attention
from multifocal_jax.fast.rows import CPU_STRIP, strip_height, whole_strip_height
from multifocal_jax.interop import torch_network
from multifocal_jax.interop.bands import reorder_bands
from multifocal_jax.interop.inputs import Inputs, verification_inputs
from multifocal_jax.interop.intermediates import torch_intermediates
from multifocal_jax.interop.names import parameters, to_flax_layout
from multifocal_jax.interop.verification import DERAINED, GRADIENTS, TorchSide, compare_programs
from multifocal_jax.interop.verification import verify
from multifocal_jax.models import MultifocalNet
from multifocal_jax.padding import pad_to_multiple
from multifocal_jax.training.optimizer import make_optimizer, make_schedule
from multifocal_jax.weights import flatten, unflatten
from tests.interop.interop_variants import VARIANTS, each_variant, small

torch.set_num_threads(1)  # the networks are tiny; threads of PyTorch and JAX would only wait for each other


def random_network(config: ModelConfig, seed: int = 0) -> torch_network.TorchNet:
    torch.manual_seed(seed)
    return torch_network.TorchNet(config).double()


def flax_params(network: torch_network.TorchNet) -> dict:
    state = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    return unflatten({p.flax: to_flax_layout(state[p.torch]) for p in parameters(network.config)})


def picture(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


@pytest.mark.parametrize("name", each_variant())
def test_every_block_agrees_in_float64(name):
    network = random_network(VARIANTS[name])
    comparison = verify(flax_params(network), network, Inputs(picture(2, 13, 26, 3)))
    assert comparison.tolerance == 1e-10
    assert comparison.checked == {row.name for row in comparison.rows}
    assert comparison.ok, comparison.table()


@pytest.mark.parametrize("name", each_variant(("default", "model_4")))
def test_output_agrees_in_float32(name):
    network = random_network(VARIANTS[name], seed=1)
    comparison = verify(flax_params(network), network, Inputs(picture(2, 21, 34, 3)), "float32")
    assert comparison.tolerance == 1e-5
    assert comparison.checked == {"output"}
    assert comparison.ok, comparison.table()


@pytest.mark.parametrize("precision", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_the_papers_network_agrees(precision):
    network = random_network(ModelConfig())
    comparison = verify(flax_params(network), network, Inputs(picture(1, 23, 16, 3)), precision)
    assert comparison.ok, comparison.table()


# Modules that share a program, and every switch that the paper leaves open.
@pytest.mark.parametrize("name", each_variant(("modules_2", "open_switches")))
def test_what_derain_and_training_run_agrees_in_float64(name):
    random = np.random.default_rng(0)
    photograph, crops = random.integers(0, 256, (1, 67, 123, 3), np.uint8), random.random((2, 96, 128, 3))
    # Both in strips of rows, also where that keeps gradients: 9,216 and 12,288 pixels, of 8,192 to a strip.
    assert strip_height(72, 128, CPU_STRIP) == 64
    assert whole_strip_height(96, 128, CPU_STRIP, 2) == 48
    network = random_network(VARIANTS[name])
    comparison = verify(flax_params(network), network, Inputs(picture(1, 8, 8, 3), photograph, crops))
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
    network = random_network(small(modules=0))
    right = spatial_attention._backward_by_image

    def wrong(*given):
        of_picture, *others = right(*given)
        return 1.001 * of_picture, *others

    monkeypatch.setattr(spatial_attention, "_backward_by_image", wrong)
    comparison = verify(flax_params(network), network, Inputs(picture(1, 8, 8, 3), crops=picture(1, 16, 24, 3)))
    assert comparison.first_over is comparison.rows[-1]
    assert comparison.rows[-1].name == GRADIENTS


def test_gradients_of_a_network_with_the_other_order_of_bands(monkeypatch):
    other, config = random_network(small(modules=0)), small(modules=0)
    params = reorder_bands(flax_params(other), config, "LL,HL,LH,HH")
    right = torch_network.FeatureRecalibration.forward

    def swapped(self, x):
        ll, lh, hl, hh = right(self, x).chunk(4, dim=1)
        return torch.cat([ll, hl, lh, hh], dim=1)

    monkeypatch.setattr(torch_network.FeatureRecalibration, "forward", swapped)
    named = dict(other.named_parameters())
    side = TorchSide(other, {p.flax: named[p.torch] for p in parameters(config)}, "LL,HL,LH,HH")
    inputs = Inputs(picture(1, 8, 8, 3), crops=picture(1, 16, 24, 3))
    with jax.enable_x64(True):
        (row,) = compare_programs(params, config, side, inputs, "float64")
        assert row.relative < 1e-10, row
        (row,) = compare_programs(params, config, replace(side, band_order="LL,LH,HL,HH"), inputs, "float64")
        assert row.relative > 1e-3


def test_the_first_block_that_differs_is_named():
    network = random_network(small(modules=2))
    params = flax_params(network)
    params["module_1"]["channel"]["level_1"]["key"]["kernel"] *= 1.001
    comparison = verify(params, network, Inputs(picture(1, 16, 24, 3)))
    assert comparison.first_over is not None
    assert comparison.first_over.name == "module_1.channel.level_1.pooled_key"
    marked = [line for line in comparison.table().splitlines() if "<<<" in line]
    assert len(marked) == 1
    assert marked[0].startswith("module_1.channel.level_1.pooled_key ")


def test_padding_to_a_multiple_is_pytorchs_reflection():
    network = random_network(small())
    images = picture(1, 21, 35, 3)
    with torch.inference_mode():
        theirs = torch_network.derain(network, torch.from_numpy(images).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        ours = network(torch.from_numpy(pad_to_multiple(images, 8)).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    np.testing.assert_array_equal(theirs.numpy(), ours.numpy()[:, :21, :35])


def test_ten_adam_steps_give_the_same_parameters():
    config = small()
    train = TrainConfig(decay_epochs=2)  # the paper's schedule, its first halvings within ten steps of two an epoch
    network = random_network(config)
    params = flax_params(network)
    batches = [(picture(4, 16, 24, 3, seed=2 * step), picture(4, 16, 24, 3, seed=2 * step + 1)) for step in range(10)]

    adam = torch.optim.Adam(network.parameters(), lr=2e-4)
    schedule = torch.optim.lr_scheduler.StepLR(adam, step_size=2, gamma=0.5)
    for step, (rainy, clean) in enumerate(batches):
        adam.zero_grad()
        torch.nn.L1Loss()(network(_to_torch(rainy)), _to_torch(clean)).backward()
        adam.step()
        if step % 2 == 1:
            schedule.step()

    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        optimizer = make_optimizer(train, make_schedule(train, steps_per_epoch=2, total_steps=10))
        state = optimizer.init(params)

        @_quick_jit
        def step(params, state, rainy, clean):
            updates, state = optimizer.update(jax.grad(_loss(config))(params, rainy, clean), state, params)
            return optax.apply_updates(params, updates), state

        for rainy, clean in batches:
            params, state = step(params, state, rainy, clean)
        ours = {name: np.asarray(value) for name, value in flatten(params).items()}
    theirs = flatten(flax_params(network))
    for name, expected in theirs.items():
        assert np.abs(ours[name] - expected).max() < 1e-8, name


# A handful of runs does not repay an optimised compilation.
_quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def _loss(config: ModelConfig):
    network = MultifocalNet(config, dtype=jnp.float64, param_dtype=jnp.float64)
    return lambda params, rainy, clean: jnp.mean(jnp.abs(network.apply({"params": params}, rainy) - clean))


def _to_torch(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


@pytest.mark.parametrize("name", ["default", "model_3", "open_switches"])
def test_fused_attention_is_the_same_network(name):
    config = VARIANTS[name]
    plain = random_network(config)
    fused = torch_network.TorchNet(config, fused=True).double()
    fused.load_state_dict(plain.state_dict())
    images = _to_torch(picture(2, 24, 16, 3))
    with torch.inference_mode():
        torch.testing.assert_close(fused(images), plain(images), rtol=1e-12, atol=1e-12)


def test_channels_last_and_autocast_stay_close():
    network = random_network(small()).float()
    images = _to_torch(picture(2, 24, 16, 3)).float()
    with torch.inference_mode():
        plain = network(images)
        last = network.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
        torch.testing.assert_close(last, plain, rtol=1e-5, atol=1e-5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = network(images)
    assert (half - plain).abs().max() < 0.05


def test_attention_maps_stay_in_float32_under_autocast():
    network = random_network(small()).float()
    kept = []
    network.entrance.get_submodule("0.softmax").register_forward_hook(lambda module, inputs, out: kept.append(out))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        network(_to_torch(picture(1, 16, 16, 3)).float())
    assert kept[0].dtype == torch.float32


def test_hooks_are_removed():
    network = random_network(small())
    torch_intermediates(network, picture(1, 16, 16, 3))
    assert not any(module._forward_hooks for module in network.modules())
