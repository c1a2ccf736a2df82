"""Reads and writes PyTorch's files. Pickled code is never run."""

import json
import re
import warnings
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from multifocal_jax.config import ModelConfig
from multifocal_jax.config_files import from_dict, to_dict
from multifocal_jax.files import write_whole
from multifocal_jax.interop.architecture import are_ours
from multifocal_jax.interop.errors import ConversionError
from multifocal_jax.interop.pickles import DAMAGED, NumpyArray, stand_ins, why_unreadable
from multifocal_jax.interop.running import require_torch
from multifocal_jax.weights import Weights

# Entries in which training code stores state dictionaries, the preferred first: usually averaged weights are published.
WRAPPERS = ("state_dict", "params_ema", "params", "model", "model_state_dict", "network", "net", "generator")
# Prefixes that DataParallel, torch.compile and wrapping modules add to every name.
PREFIXES = ("module", "_orig_mod", "model", "network", "net", "generator")
_SURE_PREFIXES = ("module", "_orig_mod")  # never a part of the network itself
_WRAPPED = re.compile(rf"^(?:(?:{'|'.join(PREFIXES)})\.)+")


@dataclass(frozen=True)
class TorchCheckpoint:
    """Tensors of a PyTorch file, by name in the order of the file; kernels OIHW, half precision widened to float32."""

    path: Path
    tensors: dict[str, np.ndarray]
    model: ModelConfig | None  # the architecture as stored by `write_pth`; None in files of other origin
    record: dict[str, Any]  # the origin of the weights, likewise
    notes: tuple[str, ...]  # one line for each unwrapping, and for a `model_config` of other origin
    prefix: str  # that was removed from names

    @property
    def class_prefix(self) -> str:
        """The part of `prefix` that belongs to the network's class, such as `net.`, and to no wrapper around it."""
        return "".join(f"{part}." for part in self.prefix.split(".")[:-1] if part not in _SURE_PREFIXES)


def read_torch_checkpoint(path: str | Path, key: str | None = None) -> TorchCheckpoint:
    """Read a zip or legacy `.pth`, or a `.safetensors` file with PyTorch names.

    `key` is the entry that holds the state dictionary if the file has several; None searches for it.

    Raises:
        ConversionError: the file does not exist, is damaged, needs pickled code, or holds no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise ConversionError(f"checkpoint {path} does not exist")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    notes: list[str] = []
    state = _unwrap(path, content, key, notes)
    unusable = [str(name) for name, value in state.items() if not _is_array(value)]
    if unusable:
        raise ConversionError(
            f"{path}: {', '.join(unusable)} are not tensors; save `network.state_dict()` alone, or use `key ENTRY`"
        )
    tensors = {str(name): _to_numpy(path, str(name), value) for name, value in state.items()}
    prefix, tensors = _drop_wrappers(tensors, notes)
    model, record = _own_model(content.get("model_config"), notes), content.get("record")
    try:
        json.dumps(record)
    except (TypeError, ValueError, RecursionError):
        record = None  # somebody else's
    record = dict(record) if isinstance(record, Mapping) else {}
    return TorchCheckpoint(path, tensors, model, record, tuple(notes), prefix)


def write_pth(path: str | Path, tensors: Mapping[str, np.ndarray], weights: Weights) -> None:
    """Write `{"state_dict", "model_config", "record"}` for `torch.load(…, weights_only=True)`, atomically.

    The state dictionary is `tensors`, by PyTorch's names; `weights` provides architecture and record.
    """
    require_torch(f"writing {path}")
    import torch

    content = {
        "state_dict": {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()},
        "model_config": to_dict(weights.model),
        "record": json.loads(json.dumps(weights.record)),
    }
    write_whole(path, lambda file: torch.save(content, file))


def _read_pickle(path: Path) -> Any:
    require_torch(f"reading {path}", "save it as .safetensors")
    import torch

    try:
        damaged = _damaged_member(path)
    except Exception:  # anything that a damaged file makes `zipfile` raise
        raise ConversionError(f"{path} {DAMAGED}") from None
    if damaged is not None:
        raise ConversionError(
            f"{path} is damaged: the checksum of {damaged} in it is wrong; get the file again, or save it again with "
            "checksums if it was saved without (torch.serialization.set_crc32_options)"
        )
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins()):
            warnings.simplefilter("ignore")  # about the age of the file's format
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # anything that a damaged file makes PyTorch raise
        raise ConversionError(f"{path} {why_unreadable(path, str(error), WRAPPERS)}") from None


def _damaged_member(path: Path) -> str | None:
    """The first member of a zip file with a wrong checksum, which PyTorch does not verify."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return None
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    import ml_dtypes  # noqa: F401  (gives NumPy bfloat16)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, AttributeError, TypeError) as error:  # a type that NumPy has not, such as float8
        raise ConversionError(f"{path} is not a readable .safetensors file: {error}") from None


def _own_model(stored: Any, notes: list[str]) -> ModelConfig | None:
    """The architecture in an entry `model_config`, of which other code may have one of its own."""
    if stored is None:
        return None
    try:
        return from_dict(ModelConfig, stored)
    except Exception as error:  # whatever somebody else's values make it raise
        notes.append(f"model_config is not used, as it is not this network's: {error}")
        return None


def _is_array(value: Any) -> bool:
    return isinstance(value, NumpyArray) or (hasattr(value, "shape") and hasattr(value, "dtype"))


def _unwrap(path: Path, content: Any, key: str | None, notes: list[str]) -> Mapping[Any, Any]:
    if not isinstance(content, Mapping):
        raise ConversionError(f"{path} holds a {type(content).__name__}; save `network.state_dict()`")
    entries = ", ".join(map(str, content)) or "none"
    if key is not None:
        if not isinstance(content.get(key), Mapping):
            raise ConversionError(f"{path} has no dictionary {key!r}; its entries: {entries}")
        return content[key]
    inner = [name for name in WRAPPERS if isinstance(content.get(name), Mapping) and _holds_arrays(content[name])]
    if not inner and any(map(_is_array, content.values())):
        return content
    if not inner:
        raise ConversionError(f"{path} holds no tensors (its entries: {entries}); name the right one with `key`")
    others = f"; `key` chooses another of {', '.join(inner)}" if len(inner) > 1 else ""
    notes.append(f"tensors taken from entry {inner[0]!r}{others}")
    return _unwrap(path, content[inner[0]], None, notes)


def _holds_arrays(value: Mapping[Any, Any], depth: int = 8) -> bool:
    """Whether there are arrays in a dictionary or those nested in it, to a limited depth, as it may contain itself."""
    inner = [item for item in value.values() if isinstance(item, Mapping)] if depth else []
    return any(map(_is_array, value.values())) or any(_holds_arrays(item, depth - 1) for item in inner)


def _drop_wrappers(tensors: dict[str, np.ndarray], notes: list[str]) -> tuple[str, dict[str, np.ndarray]]:
    """The prefix that wrappers add to names, and the tensors without it and without the wrappers' counters."""
    prefix = _wrapper_prefix(tensors)
    if not prefix:
        return prefix, tensors
    beside = [name for name in tensors if not name.startswith(prefix)]
    counters = [name for name in beside if tensors[name].shape == () and tensors[name].dtype.kind in "iu"]
    which = f"{len(tensors) - len(beside)} of {len(tensors)} names" if beside else "every name"
    notes.append(f"prefix {prefix!r} dropped from {which}")
    if counters:
        notes.append(f"left out, as a wrapper's counter: {', '.join(counters)}")
    return prefix, {name.removeprefix(prefix): value for name, value in tensors.items() if name not in counters}


def _wrapper_prefix(names: Collection[str]) -> str:
    """The wrappers' prefixes of all names, or of most names if they certainly belong to wrappers."""
    prefix, ours = "", are_ours([_WRAPPED.sub("", name) for name in names])
    while True:
        within = [name for name in names if name.startswith(prefix)]
        for wrapper in PREFIXES:
            wrapped = [name for name in within if name.startswith(f"{prefix}{wrapper}.")]
            most = 2 * len(wrapped) > len(names) and (ours or wrapper in _SURE_PREFIXES)
            if wrapped and (len(wrapped) == len(within) or most):
                prefix += f"{wrapper}."
                break
        else:
            bare = {name.removeprefix(prefix) for name in names}
            return prefix if len(bare) == len(names) else ""


def _to_numpy(path: Path, name: str, value: Any) -> np.ndarray:
    """Convert to NumPy; half precision becomes float32."""
    if isinstance(value, NumpyArray | np.generic):
        value = value.array if isinstance(value, NumpyArray) else np.asarray(value)
        value = value.astype(value.dtype.newbyteorder("="))
    if not isinstance(value, np.ndarray):
        try:
            value = value.detach().cpu()
            value = (value.float() if value.is_floating_point() and value.element_size() < 4 else value).numpy()
        except (TypeError, RuntimeError) as error:  # sparse, quantised, without data
            reason = str(error).splitlines()[0]
            raise ConversionError(
                f"{path}: {name} is not a plain tensor ({reason}); save it dense, on the CPU"
            ) from None
    narrow = value.dtype.itemsize < 4 and value.dtype.kind in "fV"  # float16, and bfloat16 of kind V
    return value.astype(np.float32) if narrow else value
