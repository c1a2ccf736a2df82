"""This project's side, with the code that users run: `Derainer` for pictures, the step of `train.py` for training."""

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image

from benchmarks.kernels import count_kernels
from benchmarks.limits import demand_of
from benchmarks.work import SideConfig, Task, Work, measured_rates, resident_peak
from multifocal_jax.config import DataConfig, ExperimentConfig, SourceConfig, TrainConfig
from multifocal_jax.data.pipeline import TrainingData
from multifocal_jax.evaluation.inference import Derainer
from multifocal_jax.fast import cudnn_attention
from multifocal_jax.models import initial_parameters
from multifocal_jax.ops.attention import BANDS
from multifocal_jax.training.optimizer import make_optimizer, make_schedule
from multifocal_jax.training.parallel import DataParallel, to_host
from multifocal_jax.training.state import create_state
from multifocal_jax.training.step import make_step

PAIRS = 8  # on disk, to train on
PAPER_STEPS = 315_000


def make_task(work: Work, side: SideConfig) -> Task:
    """Set up the task, except for what its first run compiles.

    Raises:
        RuntimeError: there is no GPU, or cuDNN does not support the attention there.
    """
    if work.platform == "gpu" and jax.default_backend() != "gpu":
        raise RuntimeError("JAX finds no GPU here")
    if work.task == "attention" and not cudnn_attention.serves(jnp.dtype(work.precision), work.model.channels // BANDS):
        raise RuntimeError(f"cuDNN does not take this attention on {jax.devices()[0].device_kind}")
    if not side.cudnn:
        do_without_cudnn()
    return {
        "inference": Inference,
        "training": Training,
        "parity": Parity,
        "attention": AttentionParity,
        "rates": Rates,
    }[work.task](work)


class _Ours:
    def __init__(self, work: Work) -> None:
        self.work = work

    def facts(self) -> dict[str, Any]:
        return demand_of(self.work)

    def peak_memory(self) -> int:
        if self.work.platform == "cpu":
            return resident_peak()
        return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


class Inference(_Ours):
    """uint8 pictures on the host, de-rained to uint8 pictures on the host."""

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        params = initial_parameters(work.model, 0)
        self.derainer = Derainer(params, work.model, precision=work.precision)
        rng = np.random.default_rng(0)
        self.pictures = rng.integers(0, 256, (work.batch, work.height, work.width, 3), dtype=np.uint8)

    def run(self, count: int) -> None:
        for _ in range(count):
            self.derainer(self.pictures)


class Training(_Ours):
    """Steps as `multifocal_jax.training.loop` takes them: batches from pictures, no waiting between steps."""

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        config, data, self.batches = open_pairs(work)
        optimizer, schedule = optimization(config)
        self.parallel = DataParallel(config.train.parallel, make_step(config, optimizer, schedule, data.prepare))
        self.state = self.parallel.replicate(create_state(config, optimizer))
        self.resident = self.parallel.replicate(data.resident)

    def run(self, count: int) -> None:
        metrics: Any = None
        for _ in range(count):
            self.state, metrics = self.parallel(self.state, self.resident, next(self.batches))
        jax.block_until_ready((self.state, metrics))

    def facts(self) -> dict[str, Any]:
        batch = self.parallel.split(next(self.batches))
        step: Any = self.parallel.step
        program = step.lower(self.state, self.resident, batch).compile()
        return super().facts() | {"kernels": count_kernels(program.as_text())}


class Parity(_Ours):
    """One training step in float32, on the accelerator and on the CPU."""

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self.config, self.data, batches = open_pairs(work)
        self.batch = next(batches)
        self.deviations: dict[str, float] = {}

    def run(self, count: int) -> None:
        (loss, gradient), (expected_loss, expected) = self.both()
        difference = jax.tree.map(np.subtract, gradient, expected)
        leaves = zip(jax.tree.leaves(difference), jax.tree.leaves(expected), strict=True)
        self.deviations = {
            "loss_deviation": abs(loss - expected_loss) / expected_loss,
            "gradient_deviation": float(optax.tree.norm(difference) / optax.tree.norm(expected)),
            "worst_parameter_deviation": max(float(np.linalg.norm(d) / np.linalg.norm(e)) for d, e in leaves),
        }

    def both(self) -> tuple[tuple[float, Any], tuple[float, Any]]:
        """The step under test and the one that it is compared with."""
        return self.step_on(jax.devices()[0]), self.step_on(jax.devices("cpu")[0])

    def step_on(self, device: Any) -> tuple[float, Any]:
        """Loss, and the gradient from Adam's first moment after one step: (1 − β₁)·g."""
        config = self.config
        optimizer, schedule = optimization(config)
        step = make_step(config, optimizer, schedule, self.data.prepare)
        parallel = DataParallel("shard_map", step, [device])
        state = parallel.replicate(create_state(config, optimizer))
        state, metrics = parallel(state, parallel.replicate(self.data.resident), self.batch)
        return float(metrics["loss"]), to_host(optax.tree.get(state.opt_state, "mu"))

    def facts(self) -> dict[str, Any]:
        return dict(self.deviations)


class AttentionParity(Parity):
    """One training step on a GPU with cuDNN's attention, and without it."""

    def both(self) -> tuple[tuple[float, Any], tuple[float, Any]]:
        with_cudnn, serves = self.step_on(jax.devices()[0]), cudnn_attention.serves
        do_without_cudnn()
        try:
            return with_cudnn, self.step_on(jax.devices()[0])
        finally:
            cudnn_attention.serves = serves
            jax.clear_caches()


def do_without_cudnn() -> None:
    cudnn_attention.serves = lambda dtype, depth: False
    jax.clear_caches()


class Rates(_Ours):
    """Matrix products and copies, for the limits; and a description of the machine."""

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        rng = np.random.default_rng(0)
        self.matrix = jnp.asarray(rng.standard_normal((work.height, work.height)), work.precision)
        self.vector = jnp.zeros(work.width, jnp.float32)

    def run(self, count: int) -> None:
        product, copy = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1)
        self.rates = measured_rates(
            self.work, lambda: product(self.matrix, self.matrix), lambda: copy(self.vector), jax.block_until_ready
        )

    def facts(self) -> dict[str, Any]:
        device = jax.devices()[0]
        return self.rates | {"platform": device.platform, "device": device.device_kind, "version": jax.__version__}


def optimization(config: ExperimentConfig) -> tuple[Any, Any]:
    """Optimiser and schedule of the paper's run."""
    epochs = PAIRS / config.train.batch_size
    schedule = make_schedule(config.train, epochs, PAPER_STEPS)
    return make_optimizer(config.train, schedule), schedule


def open_pairs(work: Work) -> tuple[ExperimentConfig, TrainingData, Iterator[dict[str, Any]]]:
    """The paper's training on temporary pairs, and its batches."""
    source = SourceConfig(dataset="folder")
    with tempfile.TemporaryDirectory() as folder:
        write_pairs(Path(folder), work)
        config = ExperimentConfig(
            model=work.model,
            data=DataConfig(root=folder, train=(source,), test=source, crop_size=work.height),
            train=TrainConfig(batch_size=work.batch, precision=work.precision),
        )
        data = TrainingData(config.data, config.train.batch_size, config.train.seed)
        batches = data.batches()
        first = next(batches)  # decodes all pictures
    return config, data, itertools.chain([first], batches)


def write_pairs(root: Path, work: Work) -> None:
    """Pairs of pictures half as large again as the crops: noise, and the same with bright bars."""
    rng = np.random.default_rng(0)
    for side in ("rain", "norain"):
        (root / side).mkdir()
    for number in range(PAIRS):
        clean = rng.integers(0, 200, (work.height * 3 // 2, work.width * 3 // 2, 3), dtype=np.uint8)
        rainy = clean.copy()
        rainy[:, ::7] += 50
        Image.fromarray(clean).save(root / "norain" / f"{number}.png", compress_level=1)
        Image.fromarray(rainy).save(root / "rain" / f"{number}.png", compress_level=1)
