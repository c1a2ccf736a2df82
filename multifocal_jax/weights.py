"""Weights files: parameters, architecture and a record of their origin in one `.safetensors`."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from multifocal_jax.config import ModelConfig
from multifocal_jax.config_files import from_dict, to_dict
from multifocal_jax.errors import UserError
from multifocal_jax.files import write_whole

Parameters = Mapping[str, Any]

_PYTORCH_HEADS = (b"PK\x03\x04", b"\x80\x02\x8a")  # zip, and the older pickle format


class WeightsError(UserError):
    """A weights file cannot be used. The message names the file, the problem and the fix."""


@dataclasses.dataclass(frozen=True)
class Weights:
    """Parameters together with their architecture."""

    params: dict[str, Any]  # nested dictionary of NumPy arrays, with Flax's names
    model: ModelConfig
    record: dict[str, Any]  # their origin: data, steps, seed, metrics; free form


def flatten(params: Parameters) -> dict[str, Any]:
    """`{"fusion": {"merge": {"bias": …}}}` → `{"fusion.merge.bias": …}`, sorted by name."""
    from flax.traverse_util import flatten_dict

    return dict(sorted(flatten_dict(params, sep=".").items()))


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    from flax.traverse_util import unflatten_dict

    return unflatten_dict(flat, sep=".")


def save_weights(path: epath.PathLike, weights: Weights, dtype: str | None = None) -> None:
    """Write a `.safetensors` file atomically.

    Args:
        path: file to write, local or in a bucket; its folder must exist.
        weights: what to write.
        dtype: "float16" halves the size of a float32 file; None keeps the type of the parameters.

    Raises:
        OutputError: the file cannot be written.
        WeightsError: values are too large for the type.
    """
    from safetensors.numpy import save

    flat = cast(path, flatten(weights.params), dtype)
    metadata = {
        "model": json.dumps(to_dict(weights.model)),
        "record": json.dumps(weights.record),
        "sha256": _checksum(flat),
    }
    content = save(flat, metadata=metadata)
    write_whole(path, lambda file: file.write(content))


def cast(path: epath.PathLike, values: Parameters, dtype: str | None) -> dict[str, np.ndarray]:
    """Convert arrays to this type, or keep their own if it is None; `path` is for the message.

    Raises:
        WeightsError: a value is not finite in this type.
    """
    with np.errstate(over="ignore"):
        # In C order, as safetensors writes memory as it is.
        arrays = {name: np.asarray(value, dtype=dtype, order="C") for name, value in values.items()}
    broken = [name for name, array in arrays.items() if dtype and not np.isfinite(array).all()]
    if broken:
        raise WeightsError(f"{path}: values not finite as {dtype} in {', '.join(broken)}; write them in their own type")
    return arrays


def load_weights(path: epath.PathLike) -> Weights:
    """Read a `.safetensors` file written by `save_weights`; half precision is returned as float32.

    Raises:
        WeightsError: the file does not exist, is damaged, or was not written by `save_weights`.
    """
    from safetensors import SafetensorError, deserialize

    about = describe_weights(path)
    data = epath.Path(path).read_bytes()
    try:
        flat = {name: _array(path, name, entry) for name, entry in deserialize(data)}
    except SafetensorError as error:
        raise _unreadable(path, data, error) from None
    if about.sha256 not in (None, _checksum(flat)):  # older files have none
        raise WeightsError(f"{path} is damaged: its checksum differs from the one it was written with; get it again")
    flat = {name: value.astype(np.float32) if value.itemsize == 2 else value for name, value in flat.items()}
    return Weights(unflatten(flat), about.model, about.record)


def _array(path: epath.PathLike, name: str, entry: Mapping[str, Any]) -> np.ndarray:
    """An array of an entry of `safetensors.deserialize`; safetensors' NumPy reader does not support bfloat16."""
    import ml_dtypes

    types = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
    if entry["dtype"] not in types:
        raise WeightsError(f"{path}: {name} is of type {entry['dtype']}; weights are of {', '.join(types)}")
    return np.frombuffer(entry["data"], types[entry["dtype"]]).reshape(entry["shape"])


def _unreadable(path: epath.PathLike, head: bytes, error: Exception) -> WeightsError:
    """The error for a file that is not a `.safetensors`, judged by its name and its first bytes."""
    file = epath.Path(path)
    if file.suffix in (".pth", ".pt") or (file.suffix != ".safetensors" and head.startswith(_PYTORCH_HEADS)):
        convert = f"multifocal convert {path} {file.with_suffix('.safetensors')}"
        return WeightsError(f"{path} is a PyTorch checkpoint; convert it: {convert}")
    return WeightsError(f"{path} is not a readable .safetensors file: {error}")


@dataclasses.dataclass(frozen=True)
class Description:
    """The metadata of a weights file."""

    model: ModelConfig
    record: dict[str, Any]  # see `Weights`
    parameters: int  # their number
    size: int  # of the file, in bytes
    sha256: str | None  # of names, types, shapes and values


def describe_weights(path: epath.PathLike) -> Description:
    """Read the header of a file written by `save_weights`, without its parameters.

    Raises:
        WeightsError: the file does not exist, is damaged, or was not written by `save_weights`.
    """
    file = epath.Path(path)
    if not file.is_file():
        raise WeightsError(f"weights file {path} does not exist")
    size = file.stat().length
    with file.open("rb") as stream:
        head = stream.read(8)
        try:
            header = json.loads(stream.read(min(int.from_bytes(head, "little"), size)))
            metadata = dict(header.pop("__metadata__", {}))
            parameters = sum(math.prod(entry["shape"]) for entry in header.values())
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise _unreadable(path, head, error) from None
    if "model" not in metadata:
        raise WeightsError(
            f"{path} does not say which architecture it holds; convert it with "
            f"`multifocal convert {path} OUT.safetensors`"
        )
    try:
        model, record = from_dict(ModelConfig, json.loads(metadata["model"])), json.loads(metadata.get("record", "{}"))
    except (ValueError, TypeError, AttributeError) as error:  # another project's, or a later version's
        raise WeightsError(
            f"{path} holds another network, or one of a later version of this package: {error}"
        ) from None
    return Description(model, record, parameters, size, metadata.get("sha256"))


def file_checksum(path: epath.PathLike) -> str:
    """SHA-256 of a file of weights in hexadecimal: what cards and reports name it by."""
    return hashlib.sha256(epath.Path(path).read_bytes()).hexdigest()


def _checksum(flat: Mapping[str, Any]) -> str:
    """SHA-256 over names, types, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(flat):
        value = np.ascontiguousarray(flat[name])
        digest.update(f"{name} {value.dtype.str} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
