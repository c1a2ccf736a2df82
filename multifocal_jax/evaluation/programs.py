"""A disk cache of compiled programs, so that a second start neither traces nor compiles the network again.

JAX's own persistent cache stores XLA's programs, but needs the traced network to look them up; tracing takes longer
than de-raining a picture. Here the key of a program consists of the code of this package, the versions, the machine,
the architecture and the shape.
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

# The package's code that determines programs.
_SOURCES = ("config.py", "networks.py", "models", "ops", "fast", "evaluation/inference.py")
_PACKAGES = ("jax", "jaxlib", "flax")
_KEPT = 64  # files, the most recently used

_folder: Path | None = None
_code = ""  # digest of the code that determines programs, taken when this process began to cache them


def keep_in(folder: str | Path | None) -> None:
    """Cache programs in this folder from now on; None, the initial state, caches none.

    The folder must belong to the user: whoever can write to it can run code as the user.
    """
    global _folder, _code
    _folder = None if folder is None else Path(folder)
    if _folder and not _code:
        digest = hashlib.sha256(repr([version(package) for package in _PACKAGES]).encode())
        for path in (Path(__file__).parents[1] / name for name in _SOURCES):
            for source in [path] if path.is_file() else sorted(path.glob("*.py")):
                digest.update(source.read_bytes())
        _code = digest.hexdigest()


def kept(ingredients: tuple[Any, ...], devices: Sequence[Any], compile_program: Callable[[], Compiled]) -> Compiled:
    """Load the program from disk, or compile and store it.

    A damaged file is replaced, and a folder that cannot be written is ignored: neither is an error.

    Args:
        ingredients: what distinguishes the program from others of this package, by their `repr`.
        devices: the devices on which it runs.
        compile_program: compiles it. If JAX's persistent compilation cache is on, that is used instead.
    """
    if _folder is None or jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]
        return compile_program()
    file = _file(ingredients, devices, "program")
    # whatever pickle, JAX or XLA raise for a damaged file: it is written again
    with contextlib.suppress(Exception):
        from jax.experimental.serialize_executable import deserialize_and_load

        program = deserialize_and_load(*pickle.loads(file.read_bytes()), execution_devices=list(devices))
        file.touch()
        return program
    program = compile_program()
    _write(file, program)
    return program


def speed(ingredients: tuple[Any, ...], devices: Sequence[Any]) -> float | None:
    """The speed stored last by `keep_speed`, in this run or an earlier one; None if there is none."""
    try:
        return float(_file(ingredients, devices, "speed").read_text()) if _folder else None
    except (OSError, ValueError):
        return None


def keep_speed(ingredients: tuple[Any, ...], devices: Sequence[Any], seconds: float) -> None:
    """Store the seconds per pixel next to the programs, if these are cached."""
    if _folder:
        with contextlib.suppress(OSError):
            _folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _file(ingredients, devices, "speed").write_text(repr(seconds))


def _file(ingredients: tuple[Any, ...], devices: Sequence[Any], suffix: str) -> Path:
    assert _folder
    kinds = [(device.platform, device.device_kind, device.id) for device in devices]
    client, flags = devices[0].client, os.environ.get("XLA_FLAGS", "")
    text = repr((ingredients, kinds, client.platform_version, len(client.devices()), flags, processor()))
    return _folder / f"{hashlib.sha256((_code + text).encode()).hexdigest()}.{suffix}"


def processor() -> str:
    """The CPU model with its instruction sets: a program for another one may not run here."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    names = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(names)}))


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
    except (OSError, ValueError, NotImplementedError):  # disk full, or a platform whose programs cannot be stored
        with contextlib.suppress(OSError):
            partial.unlink()
