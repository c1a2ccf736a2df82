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
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

DAMAGED = "is damaged or not a PyTorch checkpoint"
_REBUILD = "torch._utils._rebuild_"  # what PyTorch writes tensors with
_HARMLESS = {
    *("torch.nn.parameter.Parameter", "torch.Size", "torch.device", "torch.serialization._get_layout"),
    *("collections.Counter", "_codecs.encode", "builtins.object"),
    *("builtins.set", "builtins.frozenset", "builtins.bytearray", "builtins.complex", "builtins.slice"),
}


class NumpyType:
    """Stands in for `numpy.dtype` in a pickle: the type of numbers or text, not an arbitrary one."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.kind = np.dtype(_text(name))
        if self.kind.kind not in "biufcSU":
            raise pickle.UnpicklingError(f"NumPy's type {name} holds neither numbers nor text")

    def __setstate__(self, state: Sequence[Any]) -> None:
        order: Any = _text(state[1])
        self.kind = self.kind.newbyteorder(order)


class NumpyArray:
    """Stands in for `numpy.ndarray` in a pickle; the values are `array`."""

    array: np.ndarray

    def __setstate__(self, state: Sequence[Any]) -> None:
        _, shape, kind, column_major, data = state
        self.array = _values(kind, data).reshape(shape, order="F" if column_major else "C")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _values(kind: NumpyType, data: Any) -> np.ndarray:
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, kind.kind)


def _reconstruct(kind: Any, shape: Any, name: Any) -> NumpyArray:
    return NumpyArray()


def _scalar(kind: NumpyType, data: Any) -> Any:
    return _values(kind, data)[0]


def stand_ins() -> list[Any]:
    """The supported types, each with its name in the pickle, for `torch.serialization.safe_globals`."""
    found: list[Any] = [(Namespace, "argparse.Namespace"), (NumpyType, "numpy.dtype"), (NumpyArray, "numpy.ndarray")]
    for module in ("pathlib", "pathlib._local"):  # the second in Python 3.13
        for kind in (PurePosixPath, PureWindowsPath):
            found += [(kind, f"{module}.{name}") for name in (kind.__name__, kind.__name__.removeprefix("Pure"))]
    for core in ("numpy.core", "numpy._core"):  # the second since NumPy 2
        found += [(_reconstruct, f"{core}.multiarray._reconstruct"), (_scalar, f"{core}.multiarray.scalar")]
    return found


class _Inert:
    """Stands in for anything that a pickle names; says when it is called."""

    full_name: str
    calls: list[str]
    state: Any = None

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        return object.__new__(cls)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.calls.append(self.full_name)  # a pickle that only makes an object calls no `__init__`

    def __call__(self, *arguments: Any) -> "_Inert":
        return self  # the result of a call, which is already known

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        pass

    extend = append


class _Watcher(pickle.Unpickler):
    """Follows a pickle with only `_Inert` in place of everything it names."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="latin1")
        self.named: list[str] = []
        self.calls: list[str] = []

    def find_class(self, module: str, name: str, /) -> Any:
        full_name = f"{IMPORT_MAPPING.get(module, module)}.{name}"  # PyTorch's files have the names of Python 2
        if full_name == "collections.OrderedDict":
            return OrderedDict
        self.named.append(full_name)
        return type(name, (_Inert,), {"calls": self.calls, "full_name": full_name})

    def persistent_load(self, pid: Any, /) -> Any:
        return pid[1] if pid[0] == "module" else None  # a class with its source, in legacy files; or a tensor's data


def why_unreadable(path: Path, error: str, preferred: Sequence[str]) -> str:
    """Why PyTorch does not read a file without running code; where it helps, with a command that makes a plain one.

    `error` is PyTorch's own message, `preferred` are entries in which to look for tensors first.
    """
    if "TorchScript" in error:
        return f"is a TorchScript program; make a plain checkpoint: {_command(path, 'jit.load', '', 'm.state_dict()')}"
    try:
        content, watcher = _follow(path)
    except Exception:  # anything that a damaged or malicious pickle makes the reader raise
        return DAMAGED
    harmless = {name for _, name in stand_ins()}
    code = [name for name in dict.fromkeys(watcher.named) if not (name in harmless or _is_harmless(name))]
    if not (code or "Unsupported operand" in error):
        return DAMAGED
    # What belongs to Python's standard library can do anything.
    calls = [name for name in code if name in watcher.calls or name.split(".")[0] in sys.stdlib_module_names]
    if calls:
        return (
            f"holds a pickle that calls {_some(calls)}, which is not run; ask where the file comes from for a "
            "plain state dictionary"
        )
    held = (
        f"holds pickled code ({_some(code)}), which is not run"
        if code
        else "was pickled by a protocol that PyTorch reads only where it may run code"
    )
    expression = next(_state_dictionaries(content, "m", preferred), None)
    if expression is None:
        return f"{held}, and no tensors beside it; save `network.state_dict()`"
    command = _command(path, "load", ", weights_only=False", expression)
    return f"{held}. Where its code is installed and trusted, make a plain one: {command}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _command(path: Path, load: str, options: str, expression: str) -> str:
    """A shell command that makes a plain checkpoint: in double quotes, which are easier to read, if possible."""
    code = (
        f"import torch; m = torch.{load}({str(path)!r}, map_location='cpu'{options}); "
        f"torch.save({expression}, 'state_dict.pth')"
    )
    return f"python -c {shlex.quote(code)}" if set('"$`!\\') & set(code) else f'python -c "{code}"'


def _follow(path: Path) -> tuple[Any, _Watcher]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
            with archive.open(name) as file:
                watcher = _Watcher(file)
                return watcher.load(), watcher
    with path.open("rb") as file:
        for _ in range(3):  # magic number, version, machine
            _Watcher(file).load()
        watcher = _Watcher(file)
        return watcher.load(), watcher


def _is_harmless(name: str) -> bool:
    import torch

    package, _, rest = name.partition(".")
    of_torch = rest.endswith(("Storage", "Tensor")) or isinstance(getattr(torch, rest, None), torch.dtype)
    return name in _HARMLESS or name.startswith(_REBUILD) or (package == "torch" and of_torch)


def _state_dictionaries(content: Any, expression: str, preferred: Sequence[str], depth: int = 4) -> Iterator[str]:
    """Python expressions for the containers of tensors in a pickle: a module, or a dictionary of tensors."""
    if isinstance(content, _Inert) and isinstance(content.state, Mapping) and "_modules" in content.state:
        yield f"{expression}.state_dict()"
    if not isinstance(content, Mapping) or not depth:
        return
    plain = (name for name in content if isinstance(name, str | int))
    for name in sorted(plain, key=lambda name: name not in preferred):
        yield from _state_dictionaries(content[name], f"{expression}[{name!r}]", preferred, depth - 1)
    if any(isinstance(value, _Inert) and value.full_name.startswith(_REBUILD) for value in content.values()):
        yield f"{{k: v for k, v in {expression}.items() if torch.is_tensor(v)}}"
