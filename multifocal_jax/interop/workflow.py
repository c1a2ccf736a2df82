"""What `multifocal convert` does: convert, inspect, verify. Text comes back as lines to print."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multifocal_jax.config_files import apply_overrides
from multifocal_jax.files import write_text
from multifocal_jax.interop.architecture import are_ours, infer_model, models_of_shapes, why_another_network
from multifocal_jax.interop.bands import OUR_ORDER, BandOrder
from multifocal_jax.interop.conversion import (
    Converted,
    check_destination,
    check_folder,
    describe,
    is_project_file,
    read_weights,
    torch_network,
    write_weights,
)
from multifocal_jax.interop.errors import ConversionError
from multifocal_jax.interop.foreign.matching import align, group_convolutions, report
from multifocal_jax.interop.foreign.patterns import names_file
from multifocal_jax.interop.foreign.renaming import Renaming, read_names
from multifocal_jax.interop.names import as_kernel, convolutions
from multifocal_jax.interop.running import require_torch
from multifocal_jax.interop.torch_files import TorchCheckpoint, read_torch_checkpoint
from multifocal_jax.weights_lookup import WORKDIR_FILE, find_weights

if TYPE_CHECKING:
    from multifocal_jax.interop.foreign.user_module import UserModule

Print = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asks for; messages call its fields by `name`, which the command spells."""

    source: str
    destination: str | None = None
    names: str | None = None
    key: str | None = None
    model: Sequence[tuple[str, str]] = ()
    band_order: BandOrder = OUR_ORDER
    dtype: str | None = None
    overwrite: bool = False
    inspect: bool = False
    write_names: str | None = None
    verify: bool = False
    image: str | None = None
    torch_module: str | None = None
    torch_args: Mapping[str, Any] = field(default_factory=dict)
    trace: bool = False


def run(request: Request, show: Print = print) -> bool:
    """Do what is asked.

    Returns:
        False where a verification found a difference over tolerance; nothing is written then.

    Raises:
        UserError: it cannot be done.
    """
    _check(request)
    if request.inspect:
        _inspect(request, show)
        return True
    backwards = _is_for_other_code(request)
    theirs: dict[str, Any] = {"renaming": _renaming(request), "band_order": request.band_order}
    reading, writing = ({}, theirs) if backwards else (theirs, {})
    converted = read_weights(request.source, overrides=request.model, key=request.key, **reading)
    for note in converted.notes:
        show(note)
    show(f"read {request.source}: {describe(converted.weights.model)}")
    if (request.verify or request.trace) and not _verify(request, converted, show):
        if request.destination:
            show(f"{request.destination} was not written")
        return False
    if request.destination:
        show(f"wrote {write_weights(request.destination, converted.weights, request.dtype, **writing)}")
    return True


def _is_for_other_code(request: Request) -> bool:
    """Whether names and order of bands are those to write, as the source is this project's own."""
    if not (request.names or request.band_order != OUR_ORDER) or not is_project_file(find_weights(request.source)):
        return False
    if not request.destination or Path(request.destination).suffix not in (".pth", ".pt"):
        raise ConversionError(
            f"{request.source} is this project's own, and `names` and `band_order` are for the files of other code: "
            "name a .pth to be written for it, or leave them out"
        )
    return True


def _check(request: Request) -> None:
    """Refuse what makes no sense before anything is read."""
    if request.trace and not request.torch_module:
        raise ConversionError("`trace` compares with a network of yours: name it by `torch_module FILE.py:CLASS`")
    if request.torch_module and not (request.inspect or request.verify or request.trace):
        raise ConversionError("`torch_module` needs `verify`, `trace` or `inspect`")
    if request.write_names and not request.inspect:
        raise ConversionError("`write_names` writes what `inspect` proposes: add `inspect`")
    if request.torch_args and not request.torch_module:
        raise ConversionError("`torch_args` are for a network of yours: name it by `torch_module FILE.py:CLASS`")
    more = request.destination or ("`verify`" if request.verify else "`trace`" if request.trace else "")
    if request.inspect and more:
        raise ConversionError(f"`inspect` converts nothing and verifies nothing: leave out {more}, or `inspect`")
    if request.image and not (request.verify or request.trace):
        raise ConversionError("`image` is a photograph to verify on: add `verify`, or leave it out")
    if request.dtype and not request.destination:
        raise ConversionError("`dtype` is the type of the tensors written: name a DESTINATION, or leave it out")
    if not (request.destination or request.inspect or request.verify or request.trace):
        raise ConversionError("nothing to do: name a DESTINATION, or ask for `verify` or `inspect`")
    for path in (Path(target) for target in (request.destination, request.write_names) if target):
        if not request.overwrite and (path.is_file() or (path / WORKDIR_FILE).exists()):
            raise ConversionError(f"{path} exists; `overwrite` replaces it")
    if request.destination:
        check_destination(request.destination)
    if request.write_names:
        path = Path(request.write_names)
        check_folder(path)
        if path.is_dir():
            raise ConversionError(f"{path} is a folder; `write_names` takes a file's name")
    if request.torch_module or request.verify:
        require_torch(f"`torch_module {request.torch_module}`" if request.torch_module else "`verify`")


def _verify(request: Request, converted: Converted, show: Print) -> bool:
    """Verify against the PyTorch twin, or against the user's network where one is given."""
    from multifocal_jax.interop.inputs import verification_inputs
    from multifocal_jax.interop.verification import verify

    inputs = verification_inputs(request.image)
    weights = converted.weights
    if not request.torch_module:
        network = torch_network(weights, converted.tensors)
        comparisons = [verify(weights.params, network, inputs, kind) for kind in ("float64", "float32")]
        show("\n\n".join(comparison.table() for comparison in comparisons))
        return all(comparison.ok for comparison in comparisons)

    from multifocal_jax.interop.foreign.tracing import compare_with, where_to_look

    checkpoint, renaming = _torch_source(request)
    user = _user_module(request, checkpoint, renaming)
    stems = group_convolutions({name: as_kernel(value.shape) for name, value in checkpoint.tensors.items()})[0]
    theirs = {(renaming or Renaming("", ())).rename(f"{stem}.weight")[0]: stem for stem in stems}
    names = {conv.flax: theirs[f"{conv.torch}.weight"] for conv in convolutions(weights.model)}
    comparison = compare_with(weights, user, names, inputs, request.band_order, request.trace)
    show(comparison.table())
    if request.trace:
        show(where_to_look(comparison))
    return comparison.ok


def _renaming(request: Request) -> Renaming | None:
    return read_names(request.names) if request.names else None


def _user_module(request: Request, checkpoint: TorchCheckpoint, renaming: Renaming | None) -> "UserModule":
    from multifocal_jax.interop.foreign.user_module import load_user_module

    spare = renaming.dropped(checkpoint.tensors) if renaming else ()
    return load_user_module(str(request.torch_module), checkpoint, request.torch_args, spare)


def _torch_source(request: Request) -> tuple[TorchCheckpoint, Renaming | None]:
    path = Path(request.source)
    what = "folder" if path.is_dir() else "file of this project" if path.is_file() and is_project_file(path) else ""
    if what:
        raise ConversionError(f"{path} is a {what}; `inspect` and `torch_module` take a PyTorch checkpoint")
    checkpoint, renaming = read_torch_checkpoint(path, request.key), _renaming(request)
    return checkpoint, renaming and renaming.within(checkpoint)


def _inspect(request: Request, show: Print) -> None:
    """Print a checkpoint's tensors beside ours, and propose a names file."""
    checkpoint, renaming = _torch_source(request)
    for note in checkpoint.notes:
        show(note)
    tensors = renaming.apply(checkpoint.path, checkpoint.tensors)[0] if renaming else checkpoint.tensors
    shapes = {name: value.shape for name, value in tensors.items()}
    spare: list[str] = []
    if are_ours(shapes):
        model, _ = infer_model(shapes, request.model)
    else:
        models, spare = models_of_shapes(shapes)
        if not models:
            raise ConversionError(
                f"{checkpoint.path} holds another network: its {len(shapes)} tensors do not make this one under any "
                f"names: {why_another_network(shapes)}"
            )
        model = apply_overrides(models[0], request.model)
        for other in models[1:]:
            show(f"the same shapes also make: {describe(other)}")
    show(f"architecture read off the shapes: {describe(model)}")
    alignment, prefix = align(shapes, model, spare), checkpoint.class_prefix
    if request.torch_module:
        from multifocal_jax.interop.foreign.activations import settle

        user = _user_module(request, checkpoint, renaming)
        alignment, prefix = settle(alignment, user), user.prefix
        show(f"settled by the activations of {request.torch_module}")
    show(report(alignment, shapes))
    proposal = names_file(alignment, checkpoint.path.name, prefix)
    if request.write_names:
        write_text(request.write_names, proposal)
        show(f"wrote {request.write_names}; read it, then use it as `names {request.write_names}`")
    else:
        show(f"\nA file for `names` (`write_names FILE` writes it):\n\n{proposal}")
