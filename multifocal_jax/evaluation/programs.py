"""Compiled programs kept on disk, so that a second start neither traces nor compiles the network again.

JAX's own persistent cache keeps what XLA makes, but asks for the traced network to find it; tracing takes longer than
de-raining a picture. Here a program is found by what it was made from: the code of this package, the versions, the
machine, the architecture and the shape.
"""

import contextlib
import hashlib
import os
import pickle
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from jax.stages import Compiled

# What programs are made from, below the package.
_SOURCES = ("config.py", "networks.py", "models", "ops", "fast", "evaluation/inference.py")
_PACKAGES = ("jax", "jaxlib", "flax")
_KEPT = 64  # files, the latest used

_folder: Path | None = None
_code = ""  # digest of what the programs are made from, as it was when this process began to keep them


def keep_in(folder: str | Path | None) -> None:
    """Keep programs in this folder from now on; None keeps none, as from the start.

    The folder must be the user's own: who can write into it can run code in the user's name.
    """
    global _folder, _code
    _folder = None if folder is None else Path(folder)
    if _folder and not _code:
        _code = _digest_of_code()


def kept(ingredients: tuple[Any, ...], devices: Sequence[Any], compile_program: Callable[[], Compiled]) -> Compiled:
    """The program from disk, or compiled and kept.

    A file that is damaged is replaced and a folder that cannot be written is done without: neither is an error.

    Args:
        ingredients: what distinguishes the program from others that this package makes; told apart by their `repr`.
        devices: that it runs on.
        compile_program: makes it. Where JAX's persistent compilation cache is on, that one is used instead.
    """
    if _folder is None or jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]
        return compile_program()
    file = _folder / f"{_key(ingredients, devices)}.program"
    program = _read(file, devices)
    if program is None:
        program = compile_program()
        _write(file, program)
    return program


def speed(ingredients: tuple[Any, ...], devices: Sequence[Any]) -> float | None:
    """What `keep_speed` was given last, in this run or an earlier one; None if there is nothing."""
    try:
        return float(_speed_file(ingredients, devices).read_text()) if _folder else None
    except (OSError, ValueError):
        return None


def keep_speed(ingredients: tuple[Any, ...], devices: Sequence[Any], seconds: float) -> None:
    """Keep how many seconds a pixel takes beside the programs; where these are not kept, nothing is."""
    if _folder:
        with contextlib.suppress(OSError):
            file = _speed_file(ingredients, devices)
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file.write_text(repr(seconds))


def _speed_file(ingredients: tuple[Any, ...], devices: Sequence[Any]) -> Path:
    assert _folder
    return _folder / f"{_key(ingredients, devices)}.speed"


def _key(ingredients: tuple[Any, ...], devices: Sequence[Any]) -> str:
    kinds = [(device.platform, device.device_kind, device.id) for device in devices]
    client = devices[0].client
    flags = os.environ.get("XLA_FLAGS", "")
    text = repr((ingredients, kinds, client.platform_version, len(client.devices()), flags, processor()))
    return hashlib.sha256((_code + text).encode()).hexdigest()


def _digest_of_code() -> str:
    digest = hashlib.sha256(repr([version(package) for package in _PACKAGES]).encode())
    package = Path(__file__).parents[1]
    for name in _SOURCES:
        path = package / name
        for source in [path] if path.is_file() else sorted(path.glob("*.py")):
            digest.update(source.read_bytes())
    return digest.hexdigest()


def processor() -> str:
    """Kind of CPU with its instruction sets: a program for another one may not run here."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    names = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(names)}))


def _read(file: Path, devices: Sequence[Any]) -> Compiled | None:
    from jax.experimental.serialize_executable import deserialize_and_load

    try:
        program = deserialize_and_load(*pickle.loads(file.read_bytes()), execution_devices=list(devices))
        file.touch()
    except OSError:
        return None
    except Exception:  # whatever a damaged file makes the pickle, JAX or XLA raise: it is written anew
        return None
    return program


def _write(file: Path, program: Compiled) -> None:
    from jax.experimental.serialize_executable import serialize

    partial = file.with_suffix(f".{os.getpid()}.partial")
    try:
        data = pickle.dumps(serialize(program))
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial.write_bytes(data)
        partial.replace(file)
        for old in sorted(file.parent.glob("*.program"), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
            old.unlink(missing_ok=True)
    except (OSError, ValueError, NotImplementedError):  # no room, or a platform whose programs cannot be kept
        with contextlib.suppress(OSError):
            partial.unlink()
