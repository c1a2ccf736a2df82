"""Pickles in PyTorch's files: safe reading of common objects, and analysis of a pickle without running it.

Besides tensors a checkpoint often contains the arguments of the run that made it. Their common types are read as inert
stand-ins that only hold values; anything else, which would need code chosen by the file, is not run.
"""

import pickle
import shlex
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO

import numpy as np

_ZIP = b"PK\x03\x04"
_REBUILD = "torch._utils._rebuild_"  # what PyTorch writes tensors with
_HARMLESS = {
    *("torch.nn.parameter.Parameter", "torch.Size", "torch.device", "torch.serialization._get_layout"),
    *("collections.Counter", "_codecs.encode", "builtins.object"),
    *("builtins.set", "builtins.frozenset", "builtins.bytearray", "builtins.complex", "builtins.slice"),
}


class NumpyType:
    """Stands in for `numpy.dtype` in a pickle: the type of numbers or text, not an arbitrary one."""

    def __init__(self, name: Any, *_: Any) -> None:
        name = name.decode() if isinstance(name, bytes) else str(name)
        self.dtype = np.dtype(name)
        if self.dtype.kind not in "biufcSU":
            raise pickle.UnpicklingError(f"NumPy's type {name} holds neither numbers nor text")

    def __setstate__(self, state: Sequence[Any]) -> None:
        order: Any = state[1].decode() if isinstance(state[1], bytes) else state[1]
        self.dtype = self.dtype.newbyteorder(order)


class NumpyArray:
    """Stands in for an array in a pickle.

    Attributes:
        array: the values.
    """

    array: np.ndarray

    def __setstate__(self, state: Sequence[Any]) -> None:
        _, shape, kind, column_major, data = state
        data = data.encode("latin1") if isinstance(data, str) else data
        self.array = np.frombuffer(data, kind.dtype).reshape(shape, order="F" if column_major else "C")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        """Of the array."""
        return self.array.dtype


class _NumpyClass:
    """Stands in for `numpy.ndarray`, which arrays name in their pickle."""


def _reconstruct(kind: Any, shape: Any, name: Any) -> NumpyArray:
    return NumpyArray()


def _scalar(kind: NumpyType, data: Any) -> Any:
    data = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(data, kind.dtype)[0]


def stand_ins() -> list[Any]:
    """The supported types, each with its name in the pickle, for `torch.serialization.safe_globals`."""
    found: list[Any] = [(Namespace, "argparse.Namespace")]
    for module in ("pathlib", "pathlib._local"):  # the second in Python 3.13
        for kind in ("PosixPath", "PurePosixPath"):
            found.append((PurePosixPath, f"{module}.{kind}"))
        for kind in ("WindowsPath", "PureWindowsPath"):
            found.append((PureWindowsPath, f"{module}.{kind}"))
    found += [(NumpyType, "numpy.dtype"), (_NumpyClass, "numpy.ndarray"), (NumpyArray, "multifocal_jax.NumpyArray")]
    for core in ("numpy.core", "numpy._core"):  # the second since NumPy 2
        found += [(_reconstruct, f"{core}.multiarray._reconstruct"), (_scalar, f"{core}.multiarray.scalar")]
    return found


def damaged_member(path: Path) -> str | None:
    """The first member of a zip file with a wrong checksum; None if there is none or it is not a zip file.

    Raises:
        Exception: any error of `zipfile` for a damaged file.
    """
    with path.open("rb") as file:
        if file.read(len(_ZIP)) != _ZIP:
            return None
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            try:
                with archive.open(member) as content:
                    while content.read(1 << 20):
                        pass
            except zipfile.BadZipFile:
                return member.filename
    return None


class _Watched(type):
    """Classes of `_Inert`; says when one is called."""

    calls: list[str]
    full_name: str

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        cls.calls.append(cls.full_name)
        return object.__new__(cls)


class _Inert:
    """Stands in for anything that a pickle names."""

    full_name: str
    state: Any = None

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        return object.__new__(cls)

    def __call__(self, *arguments: Any) -> "_Inert":
        return self  # the result of a call, which is already known

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        pass

    def extend(self, items: Any) -> None:
        pass


class _Watcher(pickle.Unpickler):
    """Follows a pickle with only `_Inert` in place of everything it names."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="latin1")
        self.named: list[str] = []
        self.calls: list[str] = []

    def find_class(self, module: str, name: str, /) -> Any:
        full_name = f"{IMPORT_MAPPING.get(module, module)}.{name}"  # PyTorch's files have the names of Python 2
        if full_name == "collections.OrderedDict":
            return OrderedDict
        self.named.append(full_name)
        return _Watched(name, (_Inert,), {"calls": self.calls, "full_name": full_name})

    def persistent_load(self, pid: Any, /) -> Any:
        return pid[1] if pid[0] == "module" else None  # a class with its source, in legacy files; or a tensor's data


@dataclass(frozen=True)
class Intent:
    """What a pickle would do.

    Attributes:
        code: names of the code that it needs.
        calls: those that it calls, or that belong to Python's standard library, which can do anything.
        expression: a Python expression of `m`, the unpickled object, for a plain state dictionary; None if the pickle
            calls something or contains no tensors.
    """

    code: tuple[str, ...]
    calls: tuple[str, ...]
    expression: str | None

    def command(self, path: Path) -> str | None:
        """The shell command that makes a plain checkpoint."""
        if self.expression is None:
            return None
        code = (
            f"import torch; m = torch.load({str(path)!r}, map_location='cpu', weights_only=False); "
            f"torch.save({self.expression}, 'state_dict.pth')"
        )
        return python_command(code)


def python_command(code: str) -> str:
    """A shell command that runs Python code: in double quotes, which are easier to read, if possible."""
    return f"python -c {shlex.quote(code)}" if set('"$`!\\') & set(code) else f'python -c "{code}"'


def intent(path: Path, preferred: Sequence[str]) -> Intent | None:
    """Find out what the pickle in a PyTorch file would do; None if it cannot be followed.

    Args:
        path: zip or legacy file.
        preferred: entries in which to look for tensors first.
    """
    harmless = {name for _, name in stand_ins()}
    try:
        content, watcher = _follow(path)
    except Exception:  # anything that a damaged or malicious pickle makes the reader raise
        return None
    code = [name for name in dict.fromkeys(watcher.named) if not (name in harmless or _is_harmless(name))]
    calls = [name for name in code if name in watcher.calls or name.split(".")[0] in sys.stdlib_module_names]
    expression = None if calls else next(_state_dictionaries(content, "m", preferred), None)
    return Intent(tuple(code), tuple(calls), expression)


def _follow(path: Path) -> tuple[Any, _Watcher]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
            with archive.open(name) as file:
                return _load(file)
    with path.open("rb") as file:
        for _ in range(3):  # magic number, version, machine
            _load(file)
        return _load(file)


def _load(file: Any) -> tuple[Any, _Watcher]:
    watcher = _Watcher(file)
    return watcher.load(), watcher


def _is_harmless(name: str) -> bool:
    import torch

    package, _, rest = name.partition(".")
    is_storage = package == "torch" and rest.endswith(("Storage", "Tensor"))
    is_type = package == "torch" and isinstance(getattr(torch, rest, None), torch.dtype)
    return name in _HARMLESS or name.startswith(_REBUILD) or is_storage or is_type


def _state_dictionaries(content: Any, expression: str, preferred: Sequence[str], depth: int = 4) -> Iterator[str]:
    """Expressions for the containers of tensors in a pickle: a module, or a dictionary of tensors."""
    if isinstance(content, _Inert) and isinstance(content.state, Mapping) and "_modules" in content.state:
        yield f"{expression}.state_dict()"
    if not isinstance(content, Mapping) or not depth:
        return
    for name in sorted(filter(_is_plain, content), key=lambda name: name not in preferred):
        yield from _state_dictionaries(content[name], f"{expression}[{name!r}]", preferred, depth - 1)
    if any(map(_is_tensor, content.values())):
        yield f"{{k: v for k, v in {expression}.items() if torch.is_tensor(v)}}"


def _is_plain(name: Any) -> bool:
    return isinstance(name, str | int)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, _Inert) and value.full_name.startswith(_REBUILD)
