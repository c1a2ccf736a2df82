"""Typed experiment configurations.

Every experiment is one `ExperimentConfig`. The defaults are the settings of the paper (section 4.1) on the embedded
demo data; a file in `configs/` states only what differs. Dataclasses are frozen and validated on construction, so every
config that exists can run.
"""

import re
import types
import typing
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, NoReturn

from multifocal_jax.errors import UserError


class ConfigError(UserError):
    """A field holds a value that is not allowed. The message names field, value and what is allowed."""


class _Bounds(NamedTuple):
    """Bounds of a number, carried by the `Annotated` fields of the configs."""

    allowed: str  # in words
    least: float = float("-inf")
    above: float = float("-inf")
    below: float = float("inf")

    def hold(self, value: float) -> bool:
        return value >= self.least and self.above < value < self.below


Natural = Annotated[int, _Bounds("0 or more", least=0)]
Count = Annotated[int, _Bounds("1 or more", least=1)]
Positive = Annotated[float, _Bounds("a positive number", above=0)]
NotNegative = Annotated[float, _Bounds("0 or more", least=0)]
Fraction = Annotated[float, _Bounds("0 to below 1", least=0, below=1)]


class _Checked:
    """Base of the configs: compares every field with its annotation and the bounds in it."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        annotated = typing.get_type_hints(type(self), include_extras=True)
        for name, hint in hints.items():
            value = getattr(self, name)
            self._require(name, _matches(value, hint), _spell(hint))
            for bounds in getattr(annotated[name], "__metadata__", ()):
                self._require(name, bounds.hold(value), bounds.allowed)

    def _require(self, name: str, ok: bool, allowed: str) -> None:
        if not ok:
            _refuse(f"{type(self).__name__}.{name}", getattr(self, name), allowed)


def _refuse(name: str, value: object, allowed: str) -> NoReturn:
    raise ConfigError(f"{name} is {value!r}; allowed: {allowed}")


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
class ModelConfig(_Checked):
    """Architecture. The defaults are the paper's network with 5,185,771 parameters."""

    channels: int = 64  # C, "total number of feature maps" (section 4.2.2, table 4)
    modules: Natural = 8  # attention-based basic modules (section 3.4, table 3)
    heads: int = 4  # heads of the channel CSSAB (section 3.3, table 2)
    levels: Annotated[int, _Bounds("1 to 6", least=1, below=7)] = 3  # scales of the pyramid (section 3.4)
    spp_sizes: tuple[int, ...] = (1, 3, 6, 8)  # grids of the spatial pyramid pooling, S = 110 anchors (section 3.2)
    pyramid: Pyramid = "learned"  # filter K of eq. 2; "gaussian" is Model-1 and "average" Model-2 of table 1
    interaction: Interaction = "cross_scale"  # table 1: single_scale, convolution, spatial, channel are Models 3 to 6
    # Left open by the paper, see docs/reconstruction.md:
    residual_blocks: Natural = 0  # blocks of two 3x3 convs with a skip per module and level, before the down conv
    projection_kernel: Literal[1, 3] = 1  # kernel size of the convs that compute Q, K and V
    channel_softmax: Literal["key", "query"] = "key"  # axis over which eq. 6 normalises
    value_projection: bool = True  # the channel CSSAB's V is projected by a conv
    global_skip: bool = True  # add the entrance's features to the last module's

    def __post_init__(self) -> None:
        super().__post_init__()
        four = "multiples of 4 (four wavelet bands share them)"
        self._require("channels", self.channels >= 4 and self.channels % 4 == 0, four)
        divisors = [n for n in range(1, self.channels + 1) if self.channels % n == 0]
        self._require("heads", self.heads in divisors, f"divisors of channels: {divisors}")
        sizes = bool(self.spp_sizes) and min(self.spp_sizes) >= 1
        self._require("spp_sizes", sizes, "one or more sizes of at least 1")

    @property
    def anchors(self) -> int:
        """S, the number of positions to which keys and values are pooled (110 by default)."""
        return sum(size * size for size in self.spp_sizes)

    @property
    def multiple(self) -> int:
        """Height and width of the input must be multiples of this (8 by default)."""
        return 2**self.levels


Published = Literal["rain200h", "rain200l", "rain100h", "rain100l", "rain800", "rain1400", "did", "spa"]
Dataset = Literal["demo", "folder", "clean", "rainy", Published]
RainStyle = Literal["none", "light", "heavy", "varied", "real", "identity"]


@dataclass(frozen=True, kw_only=True)
class SourceConfig(_Checked):
    """A source of pictures."""

    # A published set, a "folder" of pairs, "clean" photographs, "rainy" ones (to evaluate only), the embedded "demo".
    dataset: Dataset = "demo"
    root: str = ""  # folder of the set; if relative, inside DataConfig.root
    split: Literal["train", "test"] = "train"  # of a published set or the demo; other folders have no splits
    reader: Literal["folder", "tfds"] = "folder"  # the set as published, or as prepared by its TFDS builder
    # "none" reads the rainy pictures; a style is synthesised over the clean ones; "identity" pairs every clean picture
    # with itself, which teaches a network to leave photographs without rain unchanged.
    rain: RainStyle = "none"
    repeat: Count = 1  # how often every picture is used per epoch, to weight sources against each other
    held_out: Natural = 0  # pictures held out in addition to DataConfig.held_out, evenly spaced over the names
    exclude: tuple[str, ...] = ()  # names of pictures not to train on, such as scenes that another source holds out

    def __post_init__(self) -> None:
        super().__post_init__()
        equal = "0 for rain='identity', as its rainy side equals the clean one and cannot be scored"
        self._require("held_out", not (self.held_out and self.rain == "identity"), equal)
        styles = "'light', 'heavy', 'varied', 'real' or 'identity'"
        dry = f"{styles}, as dataset {self.dataset!r} has no rainy pictures"
        self._require("rain", not (self.dataset in ("demo", "clean") and self.rain == "none"), dry)
        wet = "'none', as the pictures of dataset 'rainy' have rain already"
        self._require("rain", not (self.dataset == "rainy" and self.rain != "none"), wet)
        published = self.dataset in typing.get_args(Published)
        unbuilt = f"'folder' for dataset {self.dataset!r}, as only published sets have a TFDS builder"
        self._require("reader", self.reader == "folder" or published, unbuilt)


@dataclass(frozen=True, kw_only=True)
class DataConfig(_Checked):
    """Training pairs, the pictures to score, and how crops are cut."""

    root: str = ""  # folder that contains the sources
    train: tuple[SourceConfig, ...] = (SourceConfig(rain="heavy"),)  # one or more, mixed
    test: SourceConfig = SourceConfig(rain="heavy", split="test")  # scored by an evaluation
    held_out: Natural = 0  # training pictures held out for validation, evenly spaced over the names of all sources
    # side of the square training crops in pixels (section 4.1)
    crop_size: Annotated[int, _Bounds("8 pixels or more", least=8)] = 128
    flips: bool = False  # mirror crops at random; the paper does not augment
    rotations: bool = False  # rotate crops by multiples of 90 degrees at random
    mode: Literal["auto", "device", "memory", "stream"] = "auto"  # where decoded pictures are kept
    memory_limit: Positive = 8.0  # GiB of decoded pictures up to which "auto" keeps them
    workers: Natural = 0  # processes that decode in "stream" mode; 0 uses threads
    on_broken: Literal["stop", "skip"] = "stop"  # what to do about a picture that is unreadable or too small

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("train", bool(self.train), "one or more sources")
        for number, source in enumerate(self.train):
            if source.dataset == "rainy":
                evaluated = "sets with clean pictures; those of 'rainy' can only be evaluated"
                _refuse(f"DataConfig.train.{number}.dataset", source.dataset, evaluated)
        for name, unused in (("repeat", 1), ("held_out", 0), ("exclude", ())):
            if (value := getattr(self.test, name)) != unused:
                _refuse(f"DataConfig.test.{name}", value, f"{unused!r}, as it is about training")


Precision = Literal["float32", "bfloat16", "float64"]
Perceptual = Literal["lpips", "niqe"]  # metrics that are computed on demand
LOSSES = ("mae", "charbonnier", "psnr", "psnr_ssim", "rmse")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(_Checked):
    """Optimisation. The defaults are the paper's (section 4.1); everything that the paper does not use is off."""

    seed: Annotated[Natural, _Bounds("below 2**63", below=2**63)] = 0  # of initial weights, order, crops and rain
    batch_size: Count = 4  # pairs per step over all devices
    epochs: Count = 700  # an epoch is one crop per training picture
    steps: Natural = 0  # if positive, train for this many steps instead of `epochs`
    optimizer: Literal["adam", "muon"] = "adam"  # "muon" for kernels, with Adam for biases; not in the paper
    learning_rate: Positive = 2e-4  # the highest of the schedule
    schedule: Literal["step", "cosine", "constant"] = "step"  # of the learning rate; "cosine" ends at 0
    decay_epochs: Count = 100  # "step" multiplies the rate by decay_factor every this many epochs
    decay_factor: Positive = 0.5  # of the "step" schedule
    warmup_steps: Natural = 0  # linear from 0 to learning_rate
    beta1: Fraction = 0.9  # Adam
    beta2: Fraction = 0.999  # Adam
    epsilon: Positive = 1e-8  # Adam
    momentum: Fraction = 0.95  # Muon
    loss: str = "mae"  # "mae" (eq. 7), "charbonnier", "psnr", "psnr_ssim", "rmse", or MODULE:FUNCTION
    frequency_weight: NotNegative = 0.0  # weight of an L1 loss on the Fourier transform
    clip_norm: NotNegative = 0.0  # if positive, clip the gradient's global norm to this
    accumulate: Count = 1  # split every batch into this many parts, run in sequence, to save memory
    ema_decay: Fraction = 0.0  # if positive, keep an exponential moving average of the weights
    parallel: Literal["pmap", "shard_map"] = "pmap"  # how a batch is split over devices
    precision: Precision = "float32"  # of the computation, never TF32; parameters stay in float32 or wider
    init_weights: str = ""  # start from these weights (a file, workdir or packaged name) instead of random ones
    log_every: Count = 50  # steps between log lines
    eval_every: Natural = 0  # steps between scores on the held-out pictures; 0 scores once, at the end
    eval_limit: Natural = 0  # score at most this many pictures during training; 0 scores all
    image_every: Natural = 0  # steps between sample pictures; 0 writes them with every score
    checkpoint_every: Count = 1000  # steps between checkpoints
    keep: Count = 3  # newest checkpoints to keep, in addition to the best
    tensorboard: bool = True  # write TensorBoard events in addition to metrics.jsonl

    def __post_init__(self) -> None:
        super().__post_init__()
        divides = self.batch_size % self.accumulate == 0
        self._require("accumulate", divides, f"divisors of batch_size {self.batch_size}")
        known = self.loss in LOSSES or re.fullmatch(r"\w+(\.\w+)*:\w+", self.loss) is not None
        self._require("loss", known, f"{', '.join(LOSSES)}, or a function as MODULE:FUNCTION")


@dataclass(frozen=True, kw_only=True)
class EvalConfig(_Checked):
    """How pictures are de-rained and scored."""

    weights: str = ""  # file, workdir or packaged name; empty means the workdir's best
    split: Literal["test", "held_out"] = "test"  # DataConfig.test, or the held-out training pictures
    family: Literal["uint8", "double"] = "uint8"  # metric family of the headline figures, see docs/metrics.md
    limit: Natural = 0  # score at most this many pictures; 0 scores all
    batch_size: Count = 1  # pictures of equal size de-rained together
    tile: int = 0  # side of the tiles in pixels; 0 processes pictures whole
    overlap: Natural = 32  # pixels by which tiles overlap
    ensemble: bool = False  # mean over the eight flips and rotations
    precision: Precision = "float32"  # of the computation
    save_images: bool = True  # write the de-rained pictures

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("tile", self.tile == 0 or self.tile >= 64, "0 or at least 64 pixels")
        smaller = self.tile == 0 or self.overlap < self.tile
        self._require("overlap", smaller, f"less than the {self.tile} pixels of EvalConfig.tile")


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig(_Checked):
    """Everything that training and evaluation need to know."""

    name: str = "experiment"  # names the default workdir
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        model, crop = self.model, self.data.crop_size
        if crop % model.multiple:
            _refuse("DataConfig.crop_size", crop, f"multiples of {model.multiple} for a model of {model.levels} levels")
        if self.train.loss == "psnr_ssim" and crop < 11:
            _refuse("DataConfig.crop_size", crop, "11 or more for the loss psnr_ssim, as SSIM's window is 11 wide")
