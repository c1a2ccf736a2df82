"""The rows of the table: what is timed, against what, and the target."""

from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.work import Platform, SideConfig, TaskName, Work
from multifocal_jax.config import ModelConfig

Kind = Literal["together", "alone", "start"]

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

RELEASED = ModelConfig(channels=32, modules=2, residual_blocks=2)  # of the packaged weights


def small(task: TaskName, height: int, width: int, batch: int = 1) -> Work:
    """A task of the released network on a CPU."""
    return Work(task, "cpu", height, width, batch=batch, model=RELEASED)


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        name: to select it by.
        title: for the table.
        kind: "together" takes turns between sides that are all ready, "alone" runs one side after the other (peak
            memory), "start" times whole processes.
        work: the task.
        sides: who does it, this project first.
        rounds: samples a side.
        unit: what a run makes `work.batch` of (or one, for steps).
        target: as in docs/performance.md.
    """

    name: str
    title: str
    kind: Kind
    work: Work
    sides: tuple[SideConfig, ...]
    rounds: int
    unit: Literal["pictures/s", "steps/s", "images/s", ""]
    target: str

    @property
    def per_run(self) -> int:
        """Units a run."""
        return 1 if self.unit == "steps/s" else self.work.batch


ROWS = (
    Row(
        "cpu-inference",
        "CPU, float32: inference 481×321",
        "together",
        Work("inference", "cpu", 321, 481),
        (OURS, *EAGER),
        7,
        "pictures/s",
        "≥ 3.5× and < 1.35 s; towards 5× and 1.0 s",
    ),
    Row(
        "cpu-training",
        "CPU, float32: training step, 4 × 128²",
        "together",
        Work("training", "cpu", 128, 128, batch=4),
        (OURS, *EAGER),
        7,
        "steps/s",
        "≥ 2×",
    ),
    Row(
        "cpu-memory",
        "CPU, float32: peak memory of inference 1920×1080",
        "alone",
        Work("inference", "cpu", 1080, 1920),
        (OURS, SideConfig("torch"), SideConfig("torch", fused=True)),
        1,
        "pictures/s",
        "< 1/3 of the twin's",
    ),
    Row(
        "cpu-start",
        "CPU: start of `derain` with the paper's network to the first picture (481×321) written",
        "start",
        Work("inference", "cpu", 321, 481),
        (OURS,),
        3,
        "",
        "second start ≤ 3 s",
    ),
    Row(
        "small-inference",
        "CPU, released network: inference 481×321",
        "together",
        small("inference", 321, 481),
        (OURS, *SMALL_EAGER, *SMALL_COMPILED),
        7,
        "pictures/s",
        "≥ 3×; towards 4.5×",
    ),
    Row(
        "small-hd",
        "CPU, released network: inference 1920×1080",
        "together",
        small("inference", 1080, 1920),
        (OURS, *SMALL_EAGER),
        3,
        "pictures/s",
        "none",
    ),
    Row(
        "small-photo",
        "CPU, released network: inference 4032×3024, whole",
        "alone",
        small("inference", 3024, 4032),
        (OURS,),
        2,
        "pictures/s",
        "≤ 5.5 GB",
    ),
    Row(
        "small-training",
        "CPU, released network: training step, 8 × 64²",
        "together",
        small("training", 64, 64, 8),
        (OURS, *SMALL_EAGER, *SMALL_COMPILED),
        7,
        "steps/s",
        "≥ 1.8× and ≥ 50% of the limit; towards 2.5×",
    ),
    Row(
        "small-training-16",
        "CPU, released network: training step, 16 × 64²",
        "together",
        small("training", 64, 64, 16),
        (OURS, *SMALL_EAGER, *SMALL_COMPILED),
        5,
        "steps/s",
        "none",
    ),
    Row(
        "small-training-128",
        "CPU, released network: training step, 4 × 128²",
        "together",
        small("training", 128, 128, 4),
        (OURS, *SMALL_EAGER, *SMALL_COMPILED),
        5,
        "steps/s",
        "none",
    ),
    Row(
        "small-start",
        "CPU, released network: `derain`, from its start to the first picture (481×321) written",
        "start",
        small("inference", 321, 481),
        (OURS,),
        3,
        "",
        "first start ≤ 4 s",
    ),
    Row(
        "small-folder",
        "CPU, released network: `derain`, from its start to a folder of 20 pictures of five sizes written",
        "start",
        small("inference", 321, 481, 20),
        (OURS,),
        1,
        "",
        "none",
    ),
    Row(
        "small-first-step",
        "CPU, released network: `train.py` of one step, 8 × 64², from its start to the weights written",
        "start",
        small("training", 64, 64, 8),
        (OURS,),
        1,
        "",
        "compiling ≤ 10 s",
    ),
    Row(
        "gpu-training",
        "GPU, bfloat16: training, 64 × 128²",
        "together",
        Work("training", "gpu", 128, 128, batch=64, precision="bfloat16"),
        (OURS, *COMPILED, WITHOUT_CUDNN),
        10,
        "images/s",
        "≥ 2× and ≥ 2,000 images/s",
    ),
    Row(
        "gpu-steps",
        "GPU, bfloat16: the paper's batch, 4 × 128²",
        "together",
        Work("training", "gpu", 128, 128, batch=4, precision="bfloat16"),
        (OURS, FUSED, WITHOUT_CUDNN),
        10,
        "steps/s",
        "none; at 250 steps/s the paper's run would take 20 minutes",
    ),
    Row(
        "gpu-inference",
        "GPU, bfloat16: inference 16 × 481×321",
        "together",
        Work("inference", "gpu", 321, 481, batch=16, precision="bfloat16"),
        (OURS, FUSED, WITHOUT_CUDNN),
        10,
        "pictures/s",
        "≥ 200 pictures/s",
    ),
    Row(
        "gpu-4k",
        "GPU, bfloat16: inference 3840×2160, whole",
        "together",
        Work("inference", "gpu", 2160, 3840, precision="bfloat16"),
        (OURS, FUSED, WITHOUT_CUDNN),
        10,
        "pictures/s",
        "≤ 0.5 s and ≤ 20 GB",
    ),
    Row(
        "gpu-parity",
        "GPU against CPU: one training step, 4 × 128², float32, products in full precision",
        "together",
        Work("parity", "gpu", 128, 128, batch=4),
        (OURS,),
        0,
        "",
        "equal up to rounding",
    ),
    Row(
        "gpu-attention",
        "GPU with cuDNN's attention against without: one training step, 64 × 128², bfloat16",
        "together",
        Work("attention", "gpu", 128, 128, batch=64, precision="bfloat16"),
        (OURS,),
        0,
        "",
        "equal up to bfloat16's rounding",
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
    return replace(row, work=work, rounds=min(row.rounds, 2))


def rates_work(platform: Platform, small: bool) -> Work:
    """What measures the machine."""
    work = RATES[platform]
    return replace(work, height=256, width=1 << 18) if small else work
