"""What `multifocal convert` does: convert, inspect, verify. Text comes back as lines to print."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multifocal_jax.config_files import apply_overrides
from multifocal_jax.files import write_text
from multifocal_jax.interop.architecture import (
    are_ours,
    infer_model,
    models_within_shapes,
    why_another_network,
)
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
from multifocal_jax.interop.foreign.matching import Alignment, align, group_convolutions, report
from multifocal_jax.interop.foreign.patterns import names_file
from multifocal_jax.interop.foreign.renaming import Renaming, read_names
from multifocal_jax.interop.names import convolutions
from multifocal_jax.interop.torch_files import TorchCheckpoint, read_torch_checkpoint
from multifocal_jax.interop.torch_import import require_torch
from multifocal_jax.weights_lookup import WORKDIR_FILE, find_weights

if TYPE_CHECKING:
    from multifocal_jax.interop.foreign.user_module import UserModule
    from multifocal_jax.interop.inputs import Inputs

Print = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asks for; the fields are the flags of `multifocal convert`."""

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
        inspect(request, show)
        return True
    backwards = _is_for_other_code(request)
    converted = read(request, backwards)
    for note in converted.notes:
        show(note)
    show(f"read {request.source}: {describe(converted.weights.model)}")
    if (request.verify or request.trace) and not check(request, converted, show):
        if request.destination:
            show(f"{request.destination} was not written")
        return False
    if request.destination:
        theirs = _other_code(request, backwards)
        written = write_weights(request.destination, converted.weights, request.dtype, **theirs)
        show(f"wrote {written}")
    return True


def _is_for_other_code(request: Request) -> bool:
    """Whether names and order of bands are those to write, as the source is this project's own.

    Raises:
        ConversionError: the destination is none of another code base.
    """
    if not (request.names or request.band_order != OUR_ORDER) or not is_project_file(find_weights(request.source)):
        return False
    if not request.destination or Path(request.destination).suffix not in (".pth", ".pt"):
        raise ConversionError(
            f"{request.source} is this project's own, and --names and --band-order are for the files of other code: "
            "name a .pth to be written for it, or leave them out"
        )
    return True


def _other_code(request: Request, wanted: bool) -> dict[str, Any]:
    """Arguments about the other code base for reading or writing."""
    if not wanted:
        return {}
    return {"renaming": read_names(request.names) if request.names else None, "band_order": request.band_order}


def _check(request: Request) -> None:
    """Refuse what makes no sense before anything is read."""
    if request.trace and not request.torch_module:
        raise ConversionError("--trace compares with a network of yours: name it by --torch-module FILE.py:CLASS")
    if request.torch_module and not (request.inspect or request.verify or request.trace):
        raise ConversionError("--torch-module needs --verify, --trace or --inspect")
    if request.write_names and not request.inspect:
        raise ConversionError("--write-names writes what --inspect proposes: add --inspect")
    if request.inspect and request.destination:
        raise ConversionError(f"--inspect converts nothing: leave out {request.destination}, or leave out --inspect")
    if not (request.destination or request.inspect or request.verify or request.trace):
        raise ConversionError("nothing to do: name a DESTINATION, or ask for --verify or --inspect")
    for target in (request.destination, request.write_names):
        path = Path(target) if target else None
        if path is None or request.overwrite:
            continue
        if path.is_file() or (path / WORKDIR_FILE).exists():
            raise ConversionError(f"{path} exists; --overwrite replaces it")
    if request.destination:
        check_destination(request.destination)
    if request.write_names:
        _check_names_file(Path(request.write_names))
    if request.torch_module or request.verify:
        require_torch(f"--torch-module {request.torch_module}" if request.torch_module else "--verify")


def _check_names_file(path: Path) -> None:
    check_folder(path)
    if path.is_dir():
        raise ConversionError(f"{path} is a folder; --write-names takes a file's name")


def read(request: Request, backwards: bool = False) -> Converted:
    """Read the source as the request says; `backwards`, names and order of bands are those of the destination."""
    return read_weights(request.source, overrides=request.model, key=request.key, **_other_code(request, not backwards))


def check(request: Request, converted: Converted, show: Print) -> bool:
    """Verify against the PyTorch twin, or against the user's network where one is given."""
    from multifocal_jax.interop.inputs import verification_inputs
    from multifocal_jax.interop.verification import verify

    inputs = verification_inputs(request.image)
    if request.torch_module:
        return _check_user_module(request, converted, inputs, show)
    network = torch_network(converted.weights, tensors=converted.tensors)
    comparisons = [verify(converted.weights.params, network, inputs, kind) for kind in ("float64", "float32")]
    show("\n\n".join(comparison.table() for comparison in comparisons))
    return all(comparison.ok for comparison in comparisons)


def _check_user_module(request: Request, converted: Converted, inputs: "Inputs", show: Print) -> bool:
    from multifocal_jax.interop.foreign.tracing import compare_with, where_to_look
    from multifocal_jax.interop.programs import DERAINED, GRADIENTS

    checkpoint = _torch_source(request)
    renaming = _renaming(request)
    user = _user_module(request, checkpoint, renaming)
    stems = group_convolutions({name: value.shape for name, value in checkpoint.tensors.items()})[0]
    theirs = {renaming.rename(f"{stem}.weight")[0]: stem for stem in stems}
    names = {conv.flax: theirs[f"{conv.torch}.weight"] for conv in convolutions(converted.weights.model)}
    comparison = compare_with(converted.weights, user, names, inputs, request.band_order)
    if not request.trace:
        comparison = comparison.only("output", DERAINED, GRADIENTS)
    show(comparison.table())
    if request.trace:
        show(where_to_look(comparison))
    return comparison.ok


def _renaming(request: Request) -> Renaming:
    return read_names(request.names) if request.names else Renaming("", ())


def _user_module(request: Request, checkpoint: TorchCheckpoint, renaming: Renaming) -> "UserModule":
    from multifocal_jax.interop.foreign.user_module import load_user_module

    spare = renaming.dropped(checkpoint.tensors)
    return load_user_module(str(request.torch_module), checkpoint, request.torch_args, spare)


def _torch_source(request: Request) -> TorchCheckpoint:
    path = Path(request.source)
    if path.is_dir():
        raise ConversionError(f"{path} is a folder; --inspect and --torch-module take a PyTorch checkpoint")
    if path.is_file() and is_project_file(path):
        raise ConversionError(
            f"{path} is a file of this project; --inspect and --torch-module take a PyTorch checkpoint"
        )
    return read_torch_checkpoint(path, request.key)


def inspect(request: Request, show: Print) -> Alignment:
    """Print a checkpoint's tensors beside ours, and propose a names file.

    Raises:
        ConversionError: the tensors cannot be those of this network.
    """
    checkpoint = _torch_source(request)
    for note in checkpoint.notes:
        show(note)
    shapes = {name: value.shape for name, value in checkpoint.tensors.items()}
    if request.names:
        tensors, _ = read_names(request.names).apply(checkpoint.path, checkpoint.tensors)
        shapes = {name: value.shape for name, value in tensors.items()}
    spare: list[str] = []
    if are_ours(shapes):
        model = infer_model(shapes, request.model).model
    else:
        models, spare = models_within_shapes(shapes)
        if not models:
            raise ConversionError(
                f"{checkpoint.path} holds another network: its {len(shapes)} tensors do not make this one under any "
                f"names: {why_another_network(shapes)}"
            )
        model = apply_overrides(models[0], request.model)
        for other in models[1:]:
            show(f"the same shapes also make: {describe(other)}")
    show(f"architecture read off the shapes: {describe(model)}")
    alignment = align({name: shape for name, shape in shapes.items() if name not in spare}, model)
    alignment = replace(alignment, spare=tuple(spare))
    if request.torch_module:
        from multifocal_jax.interop.foreign.activations import settle

        alignment = settle(alignment, _user_module(request, checkpoint, _renaming(request)))
        show(f"settled by the activations of {request.torch_module}")
    show(report(alignment, shapes))
    proposal = names_file(alignment, checkpoint.path.name)
    if request.write_names:
        write_text(request.write_names, proposal)
        show(f"wrote {request.write_names}; read it, then use it as --names {request.write_names}")
    else:
        show(f"\nA file for --names (--write-names FILE writes it):\n\n{proposal}")
    return alignment
