"""Makes parity.npz from the PyTorch network: python -m tests.golden.interop.make_fixtures (needs torch)."""

from pathlib import Path

import numpy as np
import torch

from multifocal_jax.config import ModelConfig
from multifocal_jax.interop.intermediates import blocks, torch_intermediates
from multifocal_jax.interop.names import parameters, to_flax_layout
from multifocal_jax.interop.running import to_torch
from multifocal_jax.interop.torch_network import TorchNet
from tests.interop.helpers import VARIANTS, samples, seeded_picture, seeded_tensors


def seeded_network(config: ModelConfig) -> TorchNet:
    network = TorchNet(config).double()
    network.load_state_dict({name: torch.from_numpy(value) for name, value in seeded_tensors(config).items()})
    return network


def ten_adam_steps(network: TorchNet) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The first gradients, and the parameters after ten steps of the paper's schedule, by our names."""
    named, first = dict(network.named_parameters()), {}
    adam = torch.optim.Adam(network.parameters(), lr=2e-4)
    schedule = torch.optim.lr_scheduler.StepLR(adam, step_size=4, gamma=0.5)  # two epochs of two steps
    for step in range(10):
        rainy, clean = (to_torch(seeded_picture(2 * step + end)) for end in (0, 1))
        adam.zero_grad()
        torch.nn.L1Loss()(network(rainy), clean).backward()
        first = first or {
            p.flax: to_flax_layout(named[p.torch].grad.numpy()).copy() for p in parameters(network.config)
        }
        adam.step()
        schedule.step()
    return first, {p.flax: to_flax_layout(named[p.torch].detach().numpy()) for p in parameters(network.config)}


def main() -> None:
    found = {}
    for name, config in VARIANTS.items():
        seen = torch_intermediates(seeded_network(config), seeded_picture(0))
        found[f"{name}.blocks"] = np.stack([samples(seen[block.name]) for block in blocks(config)])
        found[f"{name}.output"] = seen["output"][:, ::4, ::4]
    gradients, params = ten_adam_steps(seeded_network(VARIANTS["default"]))
    found["gradients"] = np.stack([samples(value) for value in gradients.values()])
    found["after_ten_steps"] = np.stack([samples(value) for value in params.values()])
    np.savez_compressed(Path(__file__).parent / "parity.npz", **found)


if __name__ == "__main__":
    main()
