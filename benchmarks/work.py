"""What is timed: one task, one size, one precision, on one side; and what a side makes of it."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from multifocal_jax.config import ModelConfig, Precision
from multifocal_jax.config_files import from_dict, to_dict

TaskName = Literal["inference", "training", "parity", "attention", "rates"]
Platform = Literal["cpu", "gpu"]


@dataclass(frozen=True)
class Work:
    """One task.

    Attributes:
        task: "inference" de-rains pictures as `multifocal_jax.load(…)` does, "training" takes steps as `train.py`
            does, "parity" compares one training step with the CPU's, "attention" with one without
            cuDNN's attention, "rates" measures the machine.
        platform: where it runs.
        height, width: of a picture or a training crop in pixels.
        batch: pictures at once.
        precision: of the computation.
        model: the architecture.
    """

    task: TaskName
    platform: Platform
    height: int = 128
    width: int = 128
    batch: int = 1
    precision: Precision = "float32"
    model: ModelConfig = field(default_factory=ModelConfig)

    @property
    def bytes_per_value(self) -> int:
        return {"bfloat16": 2, "float32": 4, "float64": 8}[self.precision]

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"model": to_dict(self.model)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Work":
        fields: dict[str, Any] = values | {"model": from_dict(ModelConfig, values["model"])}
        return cls(**fields)


@dataclass(frozen=True)
class SideConfig:
    """Who does the work, and how.

    Attributes:
        framework: "jax" is this project, "torch" the twin.
        channels_last: the twin's memory format.
        fused: the twin uses `scaled_dot_product_attention`.
        compiled: the twin runs under `torch.compile`.
        half: the twin computes in bfloat16 by autocast, whatever the work's precision.
        cudnn: this project leaves the spatial attention to cuDNN where that takes it.
    """

    framework: Literal["jax", "torch"]
    channels_last: bool = False
    fused: bool = False
    compiled: bool = False
    half: bool = False
    cudnn: bool = True

    @property
    def name(self) -> str:
        if self.framework == "jax":
            return "this project" if self.cudnn else "this project without cuDNN's attention"
        words = ["PyTorch", "compiled" if self.compiled else "eager"]
        words += ["channels_last"] if self.channels_last else []
        words += ["fused"] if self.fused else []
        words += ["bfloat16"] if self.half else []
        return " ".join(words)


class Task(Protocol):
    """Something to time."""

    def run(self, count: int) -> None:
        """Do the work `count` times and wait until all of it is done."""
        ...

    def facts(self) -> dict[str, Any]:
        """What there is to know beside the time; asked for once, after the last run."""
        ...

    def peak_memory(self) -> int:
        """Bytes."""
        ...


def resident_peak() -> int:
    """The most memory that this process has held so far (VmHWM), in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def measured_rates(
    work: Work, product: Callable[[], Any], copy: Callable[[], Any], wait: Callable[[list[Any]], Any]
) -> dict[str, float]:
    """Operations per second of a product of side `work.height` and bytes of a copy of `work.width` floats, at best.

    Args:
        work: the sizes.
        product: starts a product.
        copy: starts a copy.
        wait: ends when the results in the list are there.
    """

    def best_seconds(run: Callable[[], Any]) -> float:
        wait([run()])
        seconds = []
        for _ in range(10):
            begin = time.perf_counter()
            wait([run() for _ in range(5)])  # enough to hide the launch
            seconds.append((time.perf_counter() - begin) / 5)
        return min(seconds)

    return {
        "flops_per_second": 2 * work.height**3 / best_seconds(product),
        "bytes_per_second": 2 * 4 * work.width / best_seconds(copy),
    }
