"""Makes parity.npz from the PyTorch network: python -m tests.golden.interop.make_fixtures (needs torch)."""

from pathlib import Path

import numpy as np
import torch

from multifocal_jax.config import ModelConfig
from multifocal_jax.interop.intermediates import blocks, torch_intermediates
from multifocal_jax.interop.names import parameters, to_flax_layout
from multifocal_jax.interop.torch_network import TorchNet
from tests.interop.interop_variants import VARIANTS
from tests.interop.seeded import samples, seeded_picture, seeded_tensors


def seeded_network(config: ModelConfig) -> TorchNet:
    network = TorchNet(config).double()
    network.load_state_dict({name: torch.from_numpy(value) for name, value in seeded_tensors(config).items()})
    return network


def backward(network: TorchNet, step: int) -> None:
    rainy, clean = (torch.from_numpy(seeded_picture(2 * step + end)).permute(0, 3, 1, 2) for end in (0, 1))
    network.zero_grad()
    torch.nn.L1Loss()(network(rainy), clean).backward()


def main() -> None:
    found = {}
    for name, config in VARIANTS.items():
        seen = torch_intermediates(seeded_network(config), seeded_picture(0))
        found[f"{name}.blocks"] = np.stack([samples(seen[block.name]) for block in blocks(config)])
        found[f"{name}.output"] = seen["output"][:, ::4, ::4]

    network = seeded_network(VARIANTS["default"])
    named = dict(network.named_parameters())
    order = parameters(VARIANTS["default"])
    backward(network, 0)
    found["gradients"] = np.stack([samples(to_flax_layout(named[p.torch].grad.numpy())) for p in order])
    adam = torch.optim.Adam(network.parameters(), lr=2e-4)
    schedule = torch.optim.lr_scheduler.StepLR(adam, step_size=4, gamma=0.5)
    for step in range(10):
        backward(network, step)
        adam.step()
        schedule.step()
    found["after_ten_steps"] = np.stack([samples(to_flax_layout(named[p.torch].detach().numpy())) for p in order])
    np.savez_compressed(Path(__file__).parent / "parity.npz", **found)


if __name__ == "__main__":
    main()
