"""Conversion of weights between PyTorch and JAX, with every tensor accounted for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from multifocal_jax.config import ModelConfig
from multifocal_jax.config_files import apply_overrides
from multifocal_jax.interop.architecture import are_ours, infer_model, models_of_shapes, our_names, why_another_network
from multifocal_jax.interop.bands import OUR_ORDER, BandOrder, reorder_bands
from multifocal_jax.interop.errors import ConversionError
from multifocal_jax.interop.foreign.renaming import Renaming
from multifocal_jax.interop.names import as_kernel, parameters, to_flax_layout, to_torch_layout
from multifocal_jax.interop.running import require_torch
from multifocal_jax.interop.torch_files import TorchCheckpoint, read_torch_checkpoint, write_pth
from multifocal_jax.weights import (
    Weights,
    WeightsError,
    cast,
    describe_weights,
    flatten,
    load_weights,
    save_weights,
    unflatten,
)
from multifocal_jax.weights_lookup import WORKDIR_FILE, find_weights

if TYPE_CHECKING:
    from multifocal_jax.interop.torch_network import TorchNet

_Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Converted:
    """Weights, with notes on how they were read."""

    weights: Weights
    notes: tuple[str, ...] = ()
    tensors: dict[str, np.ndarray] | None = None  # those of a PyTorch source, by the PyTorch network's names


def read_weights(
    source: str | Path,
    *,
    renaming: Renaming | None = None,
    overrides: Sequence[tuple[str, str]] = (),
    key: str | None = None,
    band_order: BandOrder = OUR_ORDER,
) -> Converted:
    """Read weights from any source.

    Args:
        source: a project `.safetensors`, a training workdir, the name of packaged weights, or a PyTorch checkpoint
            (`.pth`, `.pt`, `.safetensors`).
        renaming: maps the names of another code base; like the last two, for PyTorch checkpoints only.
        overrides: pairs of a `ModelConfig` field and its value as text, for what the tensors do not show.
        key: entry of a PyTorch checkpoint that holds the tensors; None searches for it.
        band_order: order in which the trained network concatenates its wavelet bands.

    Raises:
        ConversionError: the tensors do not form one of our networks (all that are missing, extra or of another shape
            are listed), or an argument does not fit the source.
        WeightsError: nothing has this name, or a project file cannot be used.
        ConfigError: an override is not allowed.
    """
    path = find_weights(source)
    if not is_project_file(path):
        return _from_torch(read_torch_checkpoint(path, key), renaming, overrides, band_order)
    given = {"`names`": renaming is not None, "`key`": key is not None, "`band_order`": band_order != OUR_ORDER}
    if unfit := ", ".join(name for name, used in given.items() if used):
        raise ConversionError(f"{path} is a file of this project; leave out {unfit}, for PyTorch checkpoints only")
    weights = load_weights(path)
    model = apply_overrides(weights.model, overrides)
    flat = flatten(weights.params)
    _account(path, {p.flax: p.flax_shape for p in parameters(model)}, flat, model)
    return Converted(replace(weights, model=model))


def is_project_file(path: Path) -> bool:
    """Whether a file is a `.safetensors` of this project.

    Raises:
        WeightsError: it is a damaged `.safetensors`.
    """
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors":
        return False
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a readable .safetensors file: {error}") from None
    if {"model", "record", "sha256"} <= metadata.keys():
        return True  # also a later version's, which reading then refuses as such
    try:
        describe_weights(path)
    except WeightsError:  # other code may call its network `model`, too
        return False
    return True


def _from_torch(
    checkpoint: TorchCheckpoint, renaming: Renaming | None, overrides: Sequence[tuple[str, str]], band_order: BandOrder
) -> Converted:
    path, tensors, notes = checkpoint.path, checkpoint.tensors, list(checkpoint.notes)
    if renaming is not None:
        renaming = renaming.within(checkpoint)
        tensors, used = renaming.apply(path, tensors)
        notes.append(f"{used} tensors renamed by {renaming.source}")
        if dropped := renaming.dropped(checkpoint.tensors):
            notes.append(f"dropped by {renaming.source}: {', '.join(dropped)}")
        tensors, without = _completed(tensors, checkpoint, renaming)
        if without:
            shown = ", ".join(without[:3]) + (", …" if len(without) > 3 else "")
            notes.append(f"{len(without)} convolutions have no bias, for which zeros are used: {shown}")
    shapes = {name: value.shape for name, value in tensors.items()}
    if not (are_ours(shapes) or (renaming is not None and our_names(shapes))):
        raise ConversionError(_foreign(path, shapes))
    if checkpoint.model is not None:
        model = apply_overrides(checkpoint.model, overrides)
        notes.append("architecture as stored in the file")
    else:
        try:
            model, assumed = infer_model(shapes, overrides)
        except ConversionError as error:
            raise ConversionError(f"{path}: {error}") from None
        notes.append(f"architecture read off the tensors: {describe(model)}")
        if assumed:
            shown = ", ".join(f"{name}={getattr(model, name)}" for name in assumed)
            notes.append(f"no tensor shows these, so they are taken as in the paper (`model NAME=VALUE`): {shown}")
    expected = parameters(model)
    _account(
        path,
        {p.torch: p.torch_shape for p in expected},
        tensors,
        model,
        " a line `NAME = -` in a file for `names` drops one",
    )
    params = unflatten({p.flax: to_flax_layout(tensors[p.torch]) for p in expected})
    if band_order != OUR_ORDER:
        params = reorder_bands(params, model, band_order)
        notes.append(f"channels regrouped from wavelet bands {band_order} to LL,LH,HL,HH")
    weights = Weights(params, model, {**checkpoint.record, "converted_from": path.name})
    return Converted(weights, tuple(notes), tensors if band_order == OUR_ORDER else None)


def _completed(
    tensors: Mapping[str, np.ndarray], checkpoint: TorchCheckpoint, renaming: Renaming
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Renamed kernels as `as_kernel` views them, with zeros for biases that are missing; and where these are.

    There are no zeros where a tensor that is not used may be the bias, as it has the shape.
    """
    completed, without = dict(tensors), []
    renamed = {name: renaming.rename(name) for name in checkpoint.tensors}
    unused = {checkpoint.tensors[name].shape for name, (target, _) in renamed.items() if not our_names([target])}
    for name in our_names(target for target, line in renamed.values() if line):
        stem, _, leaf = name.rpartition(".")
        if leaf == "weight":
            kernel = completed[name] = tensors[name].reshape(as_kernel(tensors[name].shape))
            if f"{stem}.bias" not in tensors and kernel.shape[:1] not in unused:
                completed[f"{stem}.bias"] = np.zeros(kernel.shape[:1], kernel.dtype)
                without.append(stem)
    return completed, without


def describe(model: ModelConfig) -> str:
    """Describe an architecture by channels, modules and the fields that differ from the paper's."""
    default = vars(ModelConfig()) | {"channels": model.channels, "modules": model.modules}
    rest = [f"{name}={value}" for name, value in vars(model).items() if value != default[name]]
    return ", ".join([f"{model.channels} channels", f"{model.modules} modules", *rest])


def _account(path: Path, expected: _Shapes, tensors: Mapping[str, Any], model: ModelConfig, hint: str = "") -> None:
    """Refuse tensors of other names or shapes than expected, or that are no finite floating-point numbers.

    `hint` says what to do about extra tensors.
    """
    found = {name: np.shape(value) for name, value in tensors.items()}
    missing = [f"{name} {expected[name]}" for name in expected if name not in found]
    extra = [f"{name} {found[name]}" for name in found if name not in expected]
    misshapen = [
        f"{name} is {found[name]}, expected {shape}"
        for name, shape in expected.items()
        if found.get(name, shape) != shape
    ]
    if missing or extra or misshapen:
        lines = [f"{path} does not hold the network of {describe(model)}; nothing was written"]
        for title, names, fix in (("missing", missing, ""), ("extra", extra, hint), ("misshapen", misshapen, "")):
            if names:
                lines += [f"  {title} ({len(names)}):{fix}", *(f"    {name}" for name in names)]
        raise ConversionError("\n".join(lines))
    for name, value in tensors.items():
        if not np.issubdtype(value.dtype, np.floating):
            raise ConversionError(
                f"{path}: {name} is of type {value.dtype}, but weights are floating-point numbers; nothing was written"
            )
    if broken := [name for name, value in tensors.items() if not np.isfinite(value).all()]:
        raise ConversionError(f"{path}: values that are not finite in {', '.join(broken)}; nothing was written")


def _foreign(path: Path, shapes: _Shapes) -> str:
    models, spare = models_of_shapes(shapes)
    if models:
        besides = f", and besides {', '.join(spare)}" if spare else ""
        return (
            f"{path} has the tensors of this network under other names{besides}; `multifocal convert {path} "
            "--inspect` shows them beside ours and proposes a file for `names`"
        )
    ours = len(our_names(shapes))
    named = f"{f'only {ours}' if ours else 'none'} of its {len(shapes)} tensors {'have' if ours > 1 else 'has'}"
    return (
        f"{path} holds another network: {named} a name of this one, and their shapes do "
        f"not make it under other names: {why_another_network(shapes)}. It cannot be converted"
    )


def to_state_dict(weights: Weights) -> dict[str, np.ndarray]:
    """Convert JAX's parameters to PyTorch's state dictionary: NumPy arrays, kernels OIHW."""
    flat = flatten(weights.params)
    return {p.torch: to_torch_layout(np.asarray(flat[p.flax])) for p in parameters(weights.model)}


def write_weights(
    destination: str | Path,
    weights: Weights,
    dtype: str | None = None,
    *,
    renaming: Renaming | None = None,
    band_order: BandOrder = OUR_ORDER,
) -> Path:
    """Write weights atomically, in the format given by the destination's name.

    Args:
        destination: `.safetensors` for the project's format, `.pth` or `.pt` for PyTorch; a name without suffix creates
            a folder with `weights.safetensors`, which can be used as a workdir.
        weights: what to write.
        dtype: "float16" halves the size; None keeps the type of the parameters.
        renaming: to the names of another code base; like `band_order`, for `.pth` and `.pt` only.
        band_order: order in which the other code base concatenates its wavelet bands.

    Returns:
        The file written.

    Raises:
        ConversionError: the destination cannot be written, see `check_destination`, or the renaming does not fit.
        WeightsError: values are too large for the type.
    """
    path = check_destination(destination)
    if path.suffix in (".pth", ".pt"):
        # Two bands are swapped, so the same permutation converts in both directions.
        state = to_state_dict(replace(weights, params=reorder_bands(weights.params, weights.model, band_order)))
        if renaming is not None:
            names = renaming.restore(path, weights.model)
            state = {names[name]: value for name, value in state.items()}
        write_pth(path, cast(path, state, dtype), weights)
        return path
    if not path.suffix:
        cast(path, flatten(weights.params), dtype)  # fails before the folder is created
        path.mkdir(exist_ok=True)
        path = path / WORKDIR_FILE
    save_weights(path, weights, dtype)
    return path


def check_destination(destination: str | Path) -> Path:
    """Check that `write_weights` can write to a destination, and return its path.

    Raises:
        ConversionError: the suffix is not supported, the folder does not exist, the name is taken by a folder or file,
            or PyTorch is needed and missing.
    """
    path = Path(destination)
    if path.suffix not in (".safetensors", ".pth", ".pt", ""):
        raise ConversionError(f"{path}: cannot write {path.suffix}; use .safetensors, .pth, .pt or a folder's name")
    check_folder(path)
    if path.suffix and path.is_dir():
        raise ConversionError(f"{path} is a folder; name a file, or a folder without suffix")
    if not path.suffix and path.is_file():
        raise ConversionError(f"{path} is a file, and a name without suffix makes a folder; use another name")
    if path.suffix in (".pth", ".pt"):
        require_torch(f"writing {path}")
    return path


def check_folder(path: Path) -> None:
    """Refuse a file whose folder does not exist."""
    if not path.absolute().parent.is_dir():
        raise ConversionError(f"{path}: folder {path.parent} does not exist")


def torch_network(weights: Weights, tensors: Mapping[str, np.ndarray] | None = None) -> "TorchNet":
    """The PyTorch network with these weights, in their precision and evaluation mode.

    Where `tensors` are given, they are used instead of converting the parameters back.

    Raises:
        ConversionError: PyTorch is not installed.
    """
    require_torch("the PyTorch network")
    import torch

    from multifocal_jax.interop.torch_network import TorchNet

    values = to_state_dict(weights) if tensors is None else tensors
    state = {name: torch.from_numpy(np.array(value)) for name, value in values.items()}
    network = TorchNet(weights.model).to(next(iter(state.values())).dtype)
    network.load_state_dict(state)
    return network.eval()
