"""Infers the architecture from a checkpoint's tensors."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import product

from multifocal_jax.config import ConfigError, ModelConfig
from multifocal_jax.config_files import apply_overrides
from multifocal_jax.interop.errors import ConversionError
from multifocal_jax.interop.names import as_kernel, parameters

Shapes = Mapping[str, tuple[int, ...]]

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


def infer_model(shapes: Shapes, overrides: Sequence[tuple[str, str]] = ()) -> tuple[ModelConfig, list[str]]:
    """Infer the architecture of tensors that are named as in `torch_network.TorchNet`.

    Width, depth, levels, the kind of pyramid and of interaction, residual blocks and projections are inferred. Heads,
    SPP sizes, the softmax's axis, the global skip and `single_scale` leave no trace in tensors: the paper's values are
    assumed unless overridden.

    Args:
        shapes: by name.
        overrides: pairs of a `ModelConfig` field and its value as text.

    Returns:
        The architecture, and those of its fields that were assumed.

    Raises:
        ConversionError: no architecture fits, or the tensors do not show a required field.
        ConfigError: an override is not allowed.
    """

    def matches(pattern: str) -> list[re.Match[str]]:
        return [found for name in shapes if (found := re.match(pattern, name))]

    def count(pattern: str) -> int:
        return max((int(found[1]) + 1 for found in matches(pattern)), default=0)

    given = {name for name, _ in overrides}
    biases = matches(r"(shallow\.\d+|fusion\.merge\.conv|body\.\d+\.down\.\d+)\.bias$")
    widths = Counter(shapes[found.string][0] for found in biases if shapes[found.string])
    if not widths:
        raise ConversionError(
            "no biases shallow.N.bias, body.N.down.N.bias or fusion.merge.conv.bias, so the width cannot be read off"
        )
    modules = count(r"body\.(\d+)\.")
    levels = count(r"(?:shallow|entrance|body\.\d+\.(?:down|up|spatial|channel))\.(\d+)\.")
    kinds = [kind for kind in ("spatial", "channel") if matches(rf"body\.\d+\.{kind}\.\d+\.query\.")]
    attends = bool(kinds or matches(r"entrance\.\d+\.query\."))
    values: dict[str, object] = {
        "channels": widths.most_common(1)[0][0],
        "modules": modules,
        "levels": levels,
        "residual_blocks": count(r"body\.\d+\.residual\.\d+\.(\d+)\."),
    }
    kernels = Counter(s[-1] for name, s in shapes.items() if name.endswith(".query.conv.weight") and len(s) == 4)
    if kernels:
        values["projection_kernel"] = kernels.most_common(1)[0][0]
    if "channel" in kinds:
        values["value_projection"] = bool(matches(r"body\.\d+\.channel\.\d+\.value\."))
    if not attends and matches(r"(entrance|body\.\d+\.(spatial|channel))\.\d+\.conv\."):
        values["interaction"] = "convolution"
    elif len(kinds) == 1:
        values["interaction"] = kinds[0]
    elif not attends and not modules:
        values["interaction"] = "channel"
    if levels > 1 and not matches(r"pyramid\.filters\.") and "pyramid" not in given:
        raise ConversionError(
            "no tensors pyramid.filters.N, so the pyramid is a fixed one, and which cannot be read off: say "
            "`model pyramid=gaussian` or `model pyramid=average` (or `model pyramid=learned` if they should be there)"
        )
    try:
        model = apply_overrides(ModelConfig(), [*((name, str(value)) for name, value in values.items()), *overrides])
    except ConfigError as error:
        raise ConversionError(f"the tensors make no network that can be built: {error}") from None
    crossing = model.interaction in ("cross_scale", "single_scale")
    in_heads = bool(modules) and (crossing or model.interaction == "channel")
    assumed = {"global_skip": True, "spp_sizes": attends, "heads": in_heads, "channel_softmax": in_heads}
    assumed["interaction"] = crossing
    return model, [name for name, hidden in assumed.items() if hidden and name not in given]


def models_of_shapes(shapes: Shapes) -> tuple[list[ModelConfig], list[str]]:
    """Architectures whose tensors have these shapes under any names.

    Where that explains more of the file, kernels count as `as_kernel` views them, and need not have biases.

    Returns:
        The architectures, the most likely first, and the names of tensors that do not fit them: if no architecture
        matches the whole file, those with several levels that leave the fewest tensors over, or none unless that is a
        small part of the file.
    """
    kernels = {name: as_kernel(shape) for name, shape in shapes.items()}
    biases = [f"{name.removesuffix('.weight')}.bias" for name, shape in kernels.items() if len(shape) == 4]
    views = _models_of(shapes), _models_of(kernels, Counter(kernels[name] for name in biases if name in kernels))
    return min((view for view in views if view[0]), key=lambda view: len(view[1]), default=views[0])


def _models_of(shapes: Shapes, biases: Counter[tuple[int, ...]] | None = None) -> tuple[list[ModelConfig], list[str]]:
    """The same for shapes as they are; `biases` are those of kernels, if a network may have fewer than it needs."""
    found, wanted = Counter(tuple(shape) for shape in shapes.values()), dict[ModelConfig, Counter[tuple[int, ...]]]()
    for model in _candidates(found):
        wanted[model] = Counter(parameter.torch_shape for parameter in parameters(model))
        if biases is not None:
            needed: Counter[tuple[int, ...]] = Counter({s: count for s, count in wanted[model].items() if len(s) == 1})
            wanted[model].subtract(needed - biases)
    if exact := [model for model in wanted if wanted[model] == found]:
        return exact, []
    fitting = [model for model in wanted if model.levels > 1 and wanted[model] <= found]
    most = max((wanted[model].total() for model in fitting), default=0)
    if 4 * most < 3 * found.total():
        return [], []
    best = [model for model in fitting if wanted[model].total() == most]
    spare = [name for name, shape in shapes.items() if tuple(shape) not in wanted[best[0]]]
    return (best, spare) if most + len(spare) == found.total() else ([], [])


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
        most = found[width, width, 3, 3] // max(1, levels * modules) // 2
        interactions = ("cross_scale", "convolution", "spatial", "channel")
        for interaction, kernel, projected, blocks in product(interactions, (1, 3), (True, False), range(most + 1)):
            if projected or interaction in ("cross_scale", "channel"):
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
    if not any(as_kernel(shape)[2:] == (1, 1) for shape in shapes.values()):
        reasons.append("it has no 1×1 kernels, with which this network makes queries, keys and values")
    if not any(shape[0] == 4 * shape[1] for shape in kernels.values()):
        reasons.append("no kernel makes 4 C channels of C, which this network does before every pixel shuffle")
    if not reasons:
        listed = (f"{n} × {'×'.join(map(str, shape))}" for shape, n in Counter(kernels.values()).most_common(6))
        reasons.append(
            f"the numbers of its kernels fit no width, depth and switches of this network ({', '.join(listed)})"
        )
    return "; ".join(reasons)
