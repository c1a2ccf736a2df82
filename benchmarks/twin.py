"""PyTorch's side: `multifocal_jax.interop.torch_network` as a PyTorch user would run it."""

import contextlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (as all PyTorch code calls it)
from torch import Tensor

from benchmarks.work import SideConfig, Task, Work, measured_rates, resident_peak
from multifocal_jax.interop.torch_network import TorchNet, derain


def make_task(work: Work, side: SideConfig) -> Task:
    """Set up the task, except for what its first run compiles."""
    if hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    if work.task == "rates":
        return Rates(work)
    return {"inference": Inference, "training": Training}[work.task](work, side)


class _Twin:
    def __init__(self, work: Work) -> None:
        self.work = work
        self.device = torch.device("cpu" if work.platform == "cpu" else "cuda")

    def facts(self) -> dict[str, Any]:
        return {}

    def peak_memory(self) -> int:
        return resident_peak() if self.work.platform == "cpu" else torch.cuda.max_memory_allocated()

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


class _Network(_Twin):
    def __init__(self, work: Work, side: SideConfig) -> None:
        super().__init__(work)
        torch.manual_seed(0)
        self.autocast = "bfloat16" if side.half else work.precision
        self.format = torch.channels_last if side.channels_last else torch.contiguous_format
        self.network = TorchNet(work.model, fused=side.fused).to(self.device, memory_format=self.format)  # pyright: ignore[reportCallIssue]
        self.call: Callable[[Tensor], Tensor] = torch.compile(self.network) if side.compiled else self.network

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        if self.autocast == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.autocast))


class Inference(_Network):
    """uint8 pictures on the host, de-rained to uint8 pictures on the host."""

    def __init__(self, work: Work, side: SideConfig) -> None:
        super().__init__(work, side)
        self.network.eval()
        rng = np.random.default_rng(0)
        self.pictures = rng.integers(0, 256, (work.batch, work.height, work.width, 3), dtype=np.uint8)

    def run(self, count: int) -> None:
        with torch.inference_mode(), self.precision():
            for _ in range(count):
                batch = torch.from_numpy(self.pictures).to(self.device).permute(0, 3, 1, 2)
                rainy = (batch.float() / 255).contiguous(memory_format=self.format)
                clean = derain(self.call, rainy).clamp(0, 1)  # pyright: ignore[reportArgumentType]
                (clean.permute(0, 2, 3, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()


class Training(_Network):
    """Adam on the mean absolute error; the crops lie on the device already."""

    def __init__(self, work: Work, side: SideConfig) -> None:
        super().__init__(work, side)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=2e-4, fused=True)
        shape = (work.batch, 3, work.height, work.width)
        self.rainy, self.clean = (
            torch.rand(shape, device=self.device).contiguous(memory_format=self.format) for _ in range(2)
        )

    def run(self, count: int) -> None:
        for _ in range(count):
            self.optimizer.zero_grad(set_to_none=True)
            with self.precision():
                loss = F.l1_loss(self.call(self.rainy), self.clean)
            loss.backward()
            self.optimizer.step()
        self.wait()


class Rates(_Twin):
    """Matrix products and copies, for the limits."""

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        dtype = getattr(torch, work.precision)
        self.matrix = torch.randn(work.height, work.height, device=self.device).to(dtype)
        self.vector = torch.zeros(work.width, device=self.device)

    def run(self, count: int) -> None:
        product, copy = torch.empty_like(self.matrix), torch.empty_like(self.vector)
        self.rates = measured_rates(
            self.work,
            lambda: torch.matmul(self.matrix, self.matrix, out=product),
            lambda: copy.copy_(self.vector),
            lambda _: self.wait(),
        )

    def facts(self) -> dict[str, Any]:
        return self.rates | {"version": torch.__version__}
