"""The rows of the table: what is timed, against what, and the target."""

from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.work import Platform, SideConfig, TaskName, Work
from multifocal_jax.config import ModelConfig

OURS = SideConfig("jax")
WITHOUT_CUDNN = SideConfig("jax", cudnn=False)
EAGER = tuple(
    SideConfig("torch", channels_last=channels_last, fused=fused)
    for channels_last in (False, True)
    for fused in (False, True)
)
COMPILED = tuple(SideConfig("torch", channels_last=True, fused=fused, compiled=True) for fused in (True, False))
SMALL_EAGER = tuple(
    SideConfig("torch", channels_last=channels_last, half=half)
    for channels_last in (False, True)
    for half in (False, True)
)
SMALL_COMPILED = tuple(SideConfig("torch", channels_last=True, compiled=True, half=half) for half in (False, True))
FUSED = SideConfig("torch", channels_last=True, fused=True)

RELEASED = ModelConfig(channels=32, modules=2, residual_blocks=2)  # as general-small, the default


def small(task: TaskName, height: int, width: int, batch: int = 1) -> Work:
    return Work(task, "cpu", height, width, batch=batch, model=RELEASED)


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        name: to select it by.
        title: for the table.
        work: the task.
        sides: who does it, this project first.
        target: as in docs/performance.md.
        kind: "together" takes turns between sides that are all ready, "alone" runs one side after the other (peak
            memory), "start" times whole processes.
        rounds: samples a side.
        sample: seconds of a sample; shorter runs are repeated, as the first one after a pause is slower.
    """

    name: str
    title: str
    work: Work
    sides: tuple[SideConfig, ...]
    target: str = "none"
    kind: Literal["together", "alone", "start"] = "together"
    rounds: int = 7
    sample: float = 2.0

    @property
    def unit(self) -> str:
        """What is counted per second; nothing for whole processes and comparisons."""
        training = "images/s" if self.work.platform == "gpu" else "steps/s"
        return "" if self.kind == "start" else {"inference": "pictures/s", "training": training}.get(self.work.task, "")

    @property
    def per_run(self) -> int:
        return 1 if self.unit == "steps/s" else self.work.batch


ROWS = (
    Row(
        "cpu-inference",
        "CPU, float32: inference 481×321",
        Work("inference", "cpu", 321, 481),
        (OURS, *EAGER),
        "≥ 3.5× and < 1.35 s; towards 5× and 1.0 s",
    ),
    Row(
        "cpu-training",
        "CPU, float32: training step, 4 × 128²",
        Work("training", "cpu", 128, 128, batch=4),
        (OURS, *EAGER),
        "≥ 2×",
    ),
    Row(
        "cpu-memory",
        "CPU, float32: peak memory of inference 1920×1080",
        Work("inference", "cpu", 1080, 1920),
        (OURS, SideConfig("torch"), SideConfig("torch", fused=True)),
        "< 1/3 of the twin's",
        kind="alone",
        rounds=1,
    ),
    Row(
        "cpu-start",
        "CPU: start of `derain` with the paper's network to the first picture (481×321) written",
        Work("inference", "cpu", 321, 481),
        (OURS,),
        "second start ≤ 3 s",
        kind="start",
        rounds=3,
    ),
    Row(
        "small-inference",
        "CPU, released network: inference 481×321",
        small("inference", 321, 481),
        (OURS, *SMALL_EAGER, *SMALL_COMPILED),
        "≥ 3×; towards 4.5×",
    ),
    Row(
        "small-hd",
        "CPU, released network: inference 1920×1080",
        small("inference", 1080, 1920),
        (OURS, *SMALL_EAGER),
        rounds=3,
    ),
    Row(
        "small-photo",
        "CPU, released network: inference 4032×3024, whole",
        small("inference", 3024, 4032),
        (OURS,),
        "≤ 5.5 GB",
        kind="alone",
        rounds=2,
    ),
    Row(
        "small-training",
        "CPU, released network: training step, 8 × 64²",
        small("training", 64, 64, 8),
        (OURS, *SMALL_EAGER, *SMALL_COMPILED),
        "≥ 1.8× and ≥ 50% of the limit; towards 2.5×",
    ),
    Row(
        "small-training-16",
        "CPU, released network: training step, 16 × 64²",
        small("training", 64, 64, 16),
        (OURS, *SMALL_EAGER, *SMALL_COMPILED),
        rounds=5,
    ),
    Row(
        "small-training-128",
        "CPU, released network: training step, 4 × 128²",
        small("training", 128, 128, 4),
        (OURS, *SMALL_EAGER, *SMALL_COMPILED),
        rounds=5,
    ),
    Row(
        "small-start",
        "CPU, released network: `derain`, from its start to the first picture (481×321) written",
        small("inference", 321, 481),
        (OURS,),
        "first start ≤ 4 s",
        kind="start",
        rounds=3,
    ),
    Row(
        "small-folder",
        "CPU, released network: `derain`, from its start to a folder of 20 pictures of five sizes written",
        small("inference", 321, 481, 20),
        (OURS,),
        kind="start",
        rounds=1,
    ),
    Row(
        "small-first-step",
        "CPU, released network: `train.py` of one step, 8 × 64², from its start to the weights written",
        small("training", 64, 64, 8),
        (OURS,),
        "compiling ≤ 10 s",
        kind="start",
        rounds=1,
    ),
    Row(
        "gpu-training",
        "GPU, bfloat16: training, 64 × 128²",
        Work("training", "gpu", 128, 128, batch=64, precision="bfloat16"),
        (OURS, *COMPILED, WITHOUT_CUDNN),
        "≥ 2× and ≥ 2,000 images/s",
        rounds=10,
    ),
    Row(
        "gpu-steps",
        "GPU, bfloat16: the paper's batch, 4 × 128²",
        Work("training", "gpu", 128, 128, batch=4, precision="bfloat16"),
        (OURS, FUSED, WITHOUT_CUDNN),
        "none; at 1,000 images/s the paper's run would take 20 minutes",
        rounds=10,
    ),
    Row(
        "gpu-inference",
        "GPU, bfloat16: inference 16 × 481×321",
        Work("inference", "gpu", 321, 481, batch=16, precision="bfloat16"),
        (OURS, FUSED, WITHOUT_CUDNN),
        "≥ 200 pictures/s",
        rounds=10,
    ),
    Row(
        "gpu-4k",
        "GPU, bfloat16: inference 3840×2160, whole",
        Work("inference", "gpu", 2160, 3840, precision="bfloat16"),
        (OURS, FUSED, WITHOUT_CUDNN),
        "≤ 0.5 s and ≤ 20 GB",
        rounds=10,
    ),
    Row(
        "gpu-parity",
        "GPU against CPU: one training step, 4 × 128², float32, products in full precision",
        Work("parity", "gpu", 128, 128, batch=4),
        (OURS,),
        "equal up to rounding",
        rounds=0,
    ),
    Row(
        "gpu-attention",
        "GPU with cuDNN's attention against without: one training step, 64 × 128², bfloat16",
        Work("attention", "gpu", 128, 128, batch=64, precision="bfloat16"),
        (OURS,),
        "equal up to bfloat16's rounding",
        rounds=0,
    ),
)

RATES = {
    "cpu": Work("rates", "cpu", 2048, 64 << 20),
    "gpu": Work("rates", "gpu", 8192, 512 << 20, precision="bfloat16"),
}


SMALL = ModelConfig(channels=8, modules=1, heads=2, levels=1, spp_sizes=(1, 2))
SMALL_GPU = replace(SMALL, channels=64)  # whose bands cuDNN takes


def quick(row: Row) -> Row:
    """The same row in miniature, to see that everything runs."""
    work = replace(
        row.work,
        height=32,
        width=40 if row.work.task == "inference" else 32,
        batch=min(row.work.batch, 2),
        model=SMALL_GPU if row.work.platform == "gpu" else SMALL,
    )
    return replace(row, work=work, rounds=min(row.rounds, 2), sample=0)


def rates_work(platform: Platform, small: bool) -> Work:
    work = RATES[platform]
    return replace(work, height=256, width=1 << 18) if small else work
