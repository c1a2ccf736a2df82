"""Typed experiment configurations.

Every experiment is one `ExperimentConfig`. The defaults are the settings of the paper (section 4.1) on the embedded
demo data; a file in `configs/` says in what it differs. Dataclasses are frozen and validated on construction, so a
config that exists is a config that can run.
"""

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from multifocal_jax.errors import UserError


class ConfigError(UserError):
    """A field holds a value that is not allowed. The message names field, value and what is allowed."""


def _require(ok: bool, name: str, value: object, allowed: str) -> None:
    if not ok:
        raise ConfigError(f"{name} is {value!r}; allowed: {allowed}")


def _check_types(config: Any) -> None:
    """Compare every field with its annotation: `Literal`s, numbers, strings and tuples of them."""
    hints = typing.get_type_hints(type(config))
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        _require(
            _matches(value, hints[item.name]), f"{type(config).__name__}.{item.name}", value, _spell(hints[item.name])
        )


def _matches(value: object, hint: Any) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in args
    if origin in (typing.Union, types.UnionType):
        return any(_matches(value, arg) for arg in args)
    if origin is tuple:
        return isinstance(value, tuple) and all(_matches(item, args[0]) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _spell(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return ", ".join(repr(arg) for arg in args)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_spell(arg) for arg in args)
    if origin is tuple:
        return f"a tuple of {_spell(args[0])}"
    return "None" if hint is type(None) else f"{hint.__name__}"


Pyramid = Literal["learned", "gaussian", "average"]
Interaction = Literal["cross_scale", "single_scale", "convolution", "spatial", "channel"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Architecture. The defaults are the paper's network with 5,185,771 parameters."""

    channels: int = 64  # C, "total number of feature maps" (section 4.2.2, table 4)
    modules: int = 8  # attention-based basic modules (section 3.4, table 3)
    heads: int = 4  # heads of the channel CSSAB (section 3.3, table 2)
    levels: int = 3  # scales of the pyramid (section 3.4)
    spp_sizes: tuple[int, ...] = (1, 3, 6, 8)  # grids of the spatial pyramid pooling, S = 110 anchors (section 3.2)
    pyramid: Pyramid = "learned"  # filter K of eq. 2; "gaussian" is Model-1 and "average" Model-2 of table 1
    interaction: Interaction = "cross_scale"  # table 1: single_scale, convolution, spatial, channel are Models 3 to 6
    # What the paper leaves open, see docs/reconstruction.md:
    residual_blocks: int = 0  # blocks of two 3x3 convs with a skip per module and level, before the down conv
    projection_kernel: Literal[1, 3] = 1  # kernel of the convs that make Q, K and V
    channel_softmax: Literal["key", "query"] = "key"  # axis over which eq. 6 normalises
    value_projection: bool = True  # the channel CSSAB's V is projected by a conv
    global_skip: bool = True  # add the entrance's features to the last module's

    def __post_init__(self) -> None:
        _check_types(self)
        _require(
            self.channels >= 4 and self.channels % 4 == 0,
            "ModelConfig.channels",
            self.channels,
            "multiples of 4 (four wavelet bands share them)",
        )
        _require(self.modules >= 0, "ModelConfig.modules", self.modules, "0 or more")
        divisors = [n for n in range(1, self.channels + 1) if self.channels % n == 0]
        _require(self.heads in divisors, "ModelConfig.heads", self.heads, f"divisors of channels: {divisors}")
        _require(1 <= self.levels <= 6, "ModelConfig.levels", self.levels, "1 to 6")
        _require(
            bool(self.spp_sizes) and all(size >= 1 for size in self.spp_sizes),
            "ModelConfig.spp_sizes",
            self.spp_sizes,
            "one or more sizes of at least 1",
        )
        _require(self.residual_blocks >= 0, "ModelConfig.residual_blocks", self.residual_blocks, "0 or more")

    @property
    def anchors(self) -> int:
        """S, the number of pooled positions that keys and values are reduced to (110 by default)."""
        return sum(size * size for size in self.spp_sizes)

    @property
    def multiple(self) -> int:
        """Height and width of the input must be multiples of this (8 by default)."""
        return 2**self.levels


Dataset = Literal[
    "demo",
    "folder",
    "clean",
    "rainy",
    "rain200h",
    "rain200l",
    "rain100h",
    "rain100l",
    "rain800",
    "rain1400",
    "did",
    "spa",
]
RainStyle = Literal["none", "light", "heavy", "varied", "real", "identity"]


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Where pictures come from."""

    # A published set, a "folder" of pairs, "clean" photographs, "rainy" ones (to evaluate only), the embedded "demo".
    dataset: Dataset = "demo"
    root: str = ""  # folder of the set; a relative one lies below DataConfig.root
    split: Literal["train", "test"] = "train"  # of a published set or the demo; other folders have one split
    reader: Literal["folder", "tfds"] = "folder"  # the set as published, or as prepared by its TFDS builder
    # "none" reads the rainy pictures; a style is synthesised over the clean ones; "identity" pairs every clean picture
    # with itself, which teaches a network to leave a photograph without rain alone.
    rain: RainStyle = "none"
    repeat: int = 1  # how often every picture is seen in an epoch, to weigh sources against each other
    held_out: int = 0  # pictures set aside for validation beside DataConfig.held_out, evenly spaced over the names
    exclude: tuple[str, ...] = ()  # names of pictures not to train on, such as scenes that another source holds out

    def __post_init__(self) -> None:
        _check_types(self)
        _require(self.repeat >= 1, "SourceConfig.repeat", self.repeat, "1 or more")
        _require(self.held_out >= 0, "SourceConfig.held_out", self.held_out, "0 or more pictures")
        _require(
            not (self.held_out and self.rain == "identity"),
            "SourceConfig.held_out",
            self.held_out,
            "0 for rain='identity', as its rainy side equals the clean one and cannot be scored",
        )
        synthetic = self.dataset in ("demo", "clean")
        _require(
            not (synthetic and self.rain == "none"),
            "SourceConfig.rain",
            self.rain,
            f"'light', 'heavy', 'varied', 'real' or 'identity', as dataset {self.dataset!r} has no rainy pictures",
        )
        _require(
            not (self.dataset == "rainy" and self.rain != "none"),
            "SourceConfig.rain",
            self.rain,
            "'none', as the pictures of dataset 'rainy' have rain already",
        )
        published = self.dataset not in ("demo", "folder", "clean", "rainy")
        _require(
            self.reader == "folder" or published,
            "SourceConfig.reader",
            self.reader,
            f"'folder' for dataset {self.dataset!r}, as only published sets have a TFDS builder",
        )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Training pairs, the pictures to score, and how crops are cut."""

    root: str = ""  # folder below which the sources lie
    train: tuple[SourceConfig, ...] = (SourceConfig(rain="heavy"),)  # one or more, mixed
    test: SourceConfig = SourceConfig(rain="heavy", split="test")  # scored by evaluate.py
    held_out: int = 0  # training pictures set aside for validation, evenly spaced over the names of all sources
    crop_size: int = 128  # side of the square training crops in pixels (section 4.1)
    flips: bool = False  # mirror crops at random; the paper does not augment
    rotations: bool = False  # turn crops by multiples of 90 degrees at random
    mode: Literal["auto", "device", "memory", "stream"] = "auto"  # where decoded pictures are kept
    memory_limit: float = 8.0  # GiB of decoded pictures up to which "auto" keeps them
    workers: int = 0  # processes that decode in "stream" mode; 0 uses threads
    on_broken: Literal["stop", "skip"] = "stop"  # what an unreadable picture does to training

    def __post_init__(self) -> None:
        _check_types(self)
        _require(bool(self.train), "DataConfig.train", self.train, "one or more sources")
        for number, source in enumerate(self.train):
            _require(
                source.dataset != "rainy",
                f"DataConfig.train.{number}.dataset",
                source.dataset,
                "sets with clean pictures; those of 'rainy' can only be evaluated",
            )
        for name, unused in (("repeat", 1), ("held_out", 0), ("exclude", ())):
            value = getattr(self.test, name)
            _require(value == unused, f"DataConfig.test.{name}", value, f"{unused!r}, as it is about training")
        _require(self.held_out >= 0, "DataConfig.held_out", self.held_out, "0 or more pictures")
        _require(self.crop_size >= 8, "DataConfig.crop_size", self.crop_size, "8 pixels or more")
        _require(self.memory_limit > 0, "DataConfig.memory_limit", self.memory_limit, "a positive number of GiB")
        _require(self.workers >= 0, "DataConfig.workers", self.workers, "0 or more processes")


Precision = Literal["float32", "bfloat16", "float64"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Optimisation. The defaults are the paper's (section 4.1); what the paper does not use is off."""

    seed: int = 0  # of initial weights, order, crops and rain
    batch_size: int = 4  # pairs per step over all devices
    epochs: int = 700  # an epoch is one crop per training picture
    steps: int = 0  # train for this many steps instead of `epochs` where positive
    learning_rate: float = 2e-4
    schedule: Literal["step", "cosine", "constant"] = "step"
    decay_epochs: int = 100  # "step" multiplies the rate by decay_factor every so many epochs
    decay_factor: float = 0.5
    warmup_steps: int = 0  # linear from 0 to learning_rate
    beta1: float = 0.9  # Adam
    beta2: float = 0.999
    epsilon: float = 1e-8
    loss: Literal["mae", "charbonnier"] = "mae"  # eq. 7
    frequency_weight: float = 0.0  # weight of an L1 loss on the Fourier transform
    clip_norm: float = 0.0  # clip the gradient's global norm to this where positive
    accumulate: int = 1  # split every batch into so many parts, one after the other, for less memory
    ema_decay: float = 0.0  # keep an exponential moving average of the weights where positive
    parallel: Literal["pmap", "shard_map"] = "pmap"  # how a batch is spread over devices
    precision: Precision = "float32"  # of the computation; parameters stay in float32 (float64 for "float64")
    init_weights: str = ""  # start from these weights, a file, workdir or packaged name, instead of random ones
    log_every: int = 50  # steps between log lines
    eval_every: int = 0  # steps between scores on the held-out pictures; 0 scores once, at the end
    eval_limit: int = 0  # score at most so many pictures during training; 0 scores all
    image_every: int = 0  # steps between sample pictures; 0 writes them with every score
    checkpoint_every: int = 1000  # steps between checkpoints
    keep: int = 3  # newest checkpoints kept, beside the best
    tensorboard: bool = True  # write TensorBoard events beside metrics.jsonl

    def __post_init__(self) -> None:
        _check_types(self)
        for name in ("batch_size", "epochs", "decay_epochs", "accumulate", "log_every", "checkpoint_every", "keep"):
            _require(getattr(self, name) >= 1, f"TrainConfig.{name}", getattr(self, name), "1 or more")
        for name in ("seed", "steps", "warmup_steps", "eval_every", "eval_limit", "image_every"):
            _require(getattr(self, name) >= 0, f"TrainConfig.{name}", getattr(self, name), "0 or more")
        _require(self.seed < 2**63, "TrainConfig.seed", self.seed, "below 2**63")
        for name in ("learning_rate", "epsilon", "decay_factor"):
            _require(getattr(self, name) > 0, f"TrainConfig.{name}", getattr(self, name), "a positive number")
        for name in ("beta1", "beta2", "ema_decay"):
            _require(0 <= getattr(self, name) < 1, f"TrainConfig.{name}", getattr(self, name), "0 to below 1")
        for name in ("clip_norm", "frequency_weight"):
            _require(getattr(self, name) >= 0, f"TrainConfig.{name}", getattr(self, name), "0 or more")
        _require(
            self.batch_size % self.accumulate == 0,
            "TrainConfig.accumulate",
            self.accumulate,
            f"divisors of batch_size {self.batch_size}",
        )


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """How pictures are de-rained and scored."""

    weights: str = ""  # file, workdir or packaged name; empty takes the workdir's best
    split: Literal["test", "held_out"] = "test"  # DataConfig.test, or the training pictures set aside
    family: Literal["uint8", "double"] = "uint8"  # metric family of the headline figures, see docs/metrics.md
    limit: int = 0  # score at most so many pictures; 0 scores all
    batch_size: int = 1  # pictures of equal size de-rained together
    tile: int = 0  # side of the tiles in pixels; 0 takes whole pictures
    overlap: int = 32  # pixels by which tiles overlap
    ensemble: bool = False  # mean over the eight flips and rotations
    precision: Precision = "float32"  # of the computation
    save_images: bool = True  # write the de-rained pictures

    def __post_init__(self) -> None:
        _check_types(self)
        _require(self.limit >= 0, "EvalConfig.limit", self.limit, "0 or more pictures")
        _require(self.batch_size >= 1, "EvalConfig.batch_size", self.batch_size, "1 or more")
        _require(self.tile == 0 or self.tile >= 64, "EvalConfig.tile", self.tile, "0 or at least 64 pixels")
        _require(self.overlap >= 0, "EvalConfig.overlap", self.overlap, "0 or more pixels")
        _require(
            self.tile == 0 or self.overlap < self.tile,
            "EvalConfig.overlap",
            self.overlap,
            f"less than the {self.tile} pixels of EvalConfig.tile",
        )


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """Everything that `train.py` and `evaluate.py` need to know."""

    name: str = "experiment"  # names the default workdir
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)

    def __post_init__(self) -> None:
        _check_types(self)
        _require(
            self.data.crop_size % self.model.multiple == 0,
            "DataConfig.crop_size",
            self.data.crop_size,
            f"multiples of {self.model.multiple} for a model of {self.model.levels} levels",
        )
