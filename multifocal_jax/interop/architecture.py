"""Infers the architecture from a checkpoint's tensors."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from multifocal_jax.config import ConfigError, ModelConfig
from multifocal_jax.config_files import apply_overrides
from multifocal_jax.interop.errors import ConversionError
from multifocal_jax.interop.names import parameters

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Architecture:
    """An architecture, and those of its fields that the tensors do not show."""

    model: ModelConfig
    assumed: tuple[str, ...]


_OUR_NAMES = re.compile(
    r"(pyramid\.filters\.\d+|shallow\.\d+|entrance\.\d+\.((query|key|value)\.)?conv"
    r"|body\.\d+\.(residual\.\d+\.\d+\.conv[12]|(down|up)\.\d+|(channel|spatial)\.\d+\.((query|key|value)\.)?conv)"
    r"|fusion\.(merge\.conv|residual))\.(weight|bias)"
)


def our_names(names: Iterable[str]) -> list[str]:
    """Names that a tensor of `torch_network.TorchNet` may have."""
    return [name for name in names if _OUR_NAMES.fullmatch(name)]


def are_ours(names: Collection[str]) -> bool:
    """Whether most tensors are named as in `torch_network.TorchNet`."""
    return 2 * len(our_names(names)) > len(names)


def infer_model(shapes: Shapes, overrides: Sequence[tuple[str, str]] = ()) -> Architecture:
    """Infer the architecture of tensors that are named as in `torch_network.TorchNet`.

    Width, depth, levels, the kind of pyramid and of interaction, residual blocks and projections are inferred. Heads,
    SPP sizes, the softmax's axis, the global skip and `single_scale` leave no trace in tensors: the paper's values are
    assumed unless overridden.

    Args:
        shapes: by name.
        overrides: pairs of a `ModelConfig` field and its value as text.

    Raises:
        ConversionError: no architecture fits, or the tensors do not show a required field.
        ConfigError: an override is not allowed.
    """
    given = {name for name, _ in overrides}
    widths = Counter(
        shape[0]
        for name, shape in shapes.items()
        if re.fullmatch(r"shallow\.\d+\.bias|fusion\.merge\.conv\.bias|body\.\d+\.down\.\d+\.bias", name) and shape
    )
    if not widths:
        raise ConversionError(
            "no biases shallow.N.bias, body.N.down.N.bias or fusion.merge.conv.bias, so the width cannot be read off"
        )
    kinds = {kind: _any(shapes, rf"body\.\d+\.{kind}\.\d+\.query\.") for kind in ("spatial", "channel")}
    values: dict[str, str] = {"channels": str(widths.most_common(1)[0][0])}
    values["modules"] = str(_count(shapes, r"body\.(\d+)\."))
    levels = _count(shapes, r"(?:shallow|entrance|body\.\d+\.(?:down|up|spatial|channel))\.(\d+)\.")
    values["levels"] = str(levels)
    values["residual_blocks"] = str(_count(shapes, r"body\.\d+\.residual\.\d+\.(\d+)\."))
    kernels = Counter(s[-1] for name, s in shapes.items() if name.endswith(".query.conv.weight") and len(s) == 4)
    if kernels:
        values["projection_kernel"] = str(kernels.most_common(1)[0][0])
    if kinds["channel"]:
        values["value_projection"] = str(_any(shapes, r"body\.\d+\.channel\.\d+\.value\."))
    attends = _any(shapes, r"entrance\.\d+\.query\.") or any(kinds.values())
    if not attends and _any(shapes, r"(entrance|body\.\d+\.(spatial|channel))\.\d+\.conv\."):
        values["interaction"] = "convolution"
    elif kinds["channel"] and not kinds["spatial"]:
        values["interaction"] = "channel"
    elif kinds["spatial"] and not kinds["channel"]:
        values["interaction"] = "spatial"
    elif not attends and not int(values["modules"]):
        values["interaction"] = "channel"
    learned = _any(shapes, r"pyramid\.filters\.")
    if levels > 1 and not learned and "pyramid" not in given:
        raise ConversionError(
            "no tensors pyramid.filters.N, so the pyramid is a fixed one, and which cannot be read off: say "
            "--model pyramid=gaussian or --model pyramid=average (or --model pyramid=learned if they should be there)"
        )
    try:
        base = apply_overrides(ModelConfig(heads=1), [("channels", values.pop("channels"))])
        base = apply_overrides(base, list(values.items()))
        model = apply_overrides(base, overrides)
        if "heads" not in given:
            model = apply_overrides(model, [("heads", "4")])
    except ConfigError as error:
        raise ConversionError(f"the tensors make no network that can be built: {error}") from None
    invisible = ["global_skip"]
    if attends:
        invisible.append("spp_sizes")
    if _uses_channel_attention(model):
        invisible += ["heads", "channel_softmax"]
    if model.interaction in ("cross_scale", "single_scale"):
        invisible.append("interaction")
    return Architecture(model, tuple(name for name in invisible if name not in given))


def _uses_channel_attention(model: ModelConfig) -> bool:
    return bool(model.modules) and model.interaction in ("cross_scale", "single_scale", "channel")


def _count(shapes: Shapes, pattern: str) -> int:
    """One more than the largest number at the pattern's group."""
    found = (re.match(pattern, name) for name in shapes)
    return max((int(match[1]) + 1 for match in found if match), default=0)


def _any(shapes: Shapes, pattern: str) -> bool:
    return any(re.match(pattern, name) for name in shapes)


def models_with_shapes(shapes: Shapes) -> list[ModelConfig]:
    """Architectures whose tensors have exactly these shapes, under any names; the most likely first."""
    found = _count_shapes(shapes)
    return [model for model in _candidates(found) if _wanted(model) == found]


def models_within_shapes(shapes: Shapes) -> tuple[list[ModelConfig], list[str]]:
    """As `models_with_shapes`, for files that may contain some extra tensors.

    Returns:
        The architectures, and the names of tensors that do not fit them: if no architecture matches the whole file,
        those with several levels that leave the fewest tensors over, or none unless that is a small part of the file.
    """
    if exact := models_with_shapes(shapes):
        return exact, []
    found = _count_shapes(shapes)
    fitting = [model for model in _candidates(found) if model.levels > 1 and _wanted(model) <= found]
    most = max((_wanted(model).total() for model in fitting), default=0)
    if 4 * most < 3 * found.total():
        return [], []
    best = [model for model in fitting if _wanted(model).total() == most]
    spare = [name for name, shape in shapes.items() if tuple(shape) not in _wanted(best[0])]
    return (best, spare) if most + len(spare) == found.total() else ([], [])


def _count_shapes(shapes: Shapes) -> Counter[tuple[int, ...]]:
    return Counter(tuple(shape) for shape in shapes.values())


def _wanted(model: ModelConfig) -> Counter[tuple[int, ...]]:
    return Counter(parameter.torch_shape for parameter in parameters(model))


def _candidates(found: Counter[tuple[int, ...]]) -> Iterator[ModelConfig]:
    """Architectures that are possible by the counts of characteristic shapes."""
    first = {shape[0]: count for shape, count in found.items() if len(shape) == 4 and shape[1:] == (3, 3, 3)}
    learned = first.pop(3, 0)
    for width, levels in first.items():
        if width % 4 or not 1 <= levels <= 6 or learned not in (0, levels - 1):
            continue
        modules, rest = divmod(found[4 * width, width, 3, 3], levels)
        if rest:
            continue
        per_level = found[width, width, 3, 3] // max(1, levels * modules)
        for interaction in ("cross_scale", "convolution", "spatial", "channel"):
            for kernel in (1, 3):
                for projected in (True, False) if interaction in ("cross_scale", "channel") else (True,):
                    for blocks in range(per_level // 2 + 1):
                        yield ModelConfig(
                            channels=width,
                            modules=modules,
                            heads=4,
                            levels=levels,
                            pyramid="learned" if learned or levels == 1 else "gaussian",
                            interaction=interaction,
                            projection_kernel=kernel,
                            value_projection=projected,
                            residual_blocks=blocks,
                        )


def why_another_network(shapes: Shapes) -> str:
    """Why a checkpoint is one of another network, in plain words."""
    kernels = {name: shape for name, shape in shapes.items() if len(shape) == 4}
    if not kernels:
        return "it holds no convolution kernels"
    reasons = []
    if not any(shape[1:] == (3, 3, 3) and shape[0] != 3 for shape in kernels.values()):
        name, shape = next(iter(kernels.items()))
        reasons.append(
            f"no 3×3 kernel takes the 3 colours of a picture to features, of which this network has one per pyramid "
            f"level ({name}, the first kernel, takes {shape[1]} channels)"
        )
    if not any(shape[2:] == (1, 1) for shape in kernels.values()):
        reasons.append("it has no 1×1 kernels, with which this network makes queries, keys and values")
    if not any(shape[0] == 4 * shape[1] for shape in kernels.values()):
        reasons.append("no kernel makes 4 C channels of C, which this network does before every pixel shuffle")
    if not reasons:
        counts = Counter(kernels.values())
        listed = ", ".join(f"{count} × {'×'.join(map(str, shape))}" for shape, count in counts.most_common(6))
        reasons.append(f"the numbers of its kernels fit no width, depth and switches of this network ({listed})")
    return "; ".join(reasons)
