"""Reads experiment configs from files, overrides single fields, and stores configs as plain dictionaries."""

import ast
import dataclasses
import difflib
import importlib.util
import inspect
import json
import shlex
import traceback
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from multifocal_jax.config import ConfigError, ExperimentConfig
from multifocal_jax.paths import as_path

Config = TypeVar("Config")
WORKDIR_CONFIG = "config.json"  # what training writes into its workdir
_INSIDE = Path(__file__).with_name("configs")  # where a wheel has the packaged configs
_FOLDER = _INSIDE if _INSIDE.is_dir() else Path(__file__).parents[1] / "configs"


def packaged_configs() -> list[str]:
    """Names of the packaged configs, sorted."""
    return sorted(file.stem for file in _FOLDER.glob("*.py"))


def list_configs() -> str:
    """A line for each packaged config: its name and what it is for."""
    names = packaged_configs()
    about = [ast.get_docstring(ast.parse((_FOLDER / f"{name}.py").read_text(encoding="utf-8"))) for name in names]
    return "\n".join(f"{name:<18}{str(text).splitlines()[0]}" for name, text in zip(names, about, strict=True))


def load_config(name: str, changes: Mapping[str, Any] | None = None) -> ExperimentConfig:
    """Run a config file's `get_config()`, or read the `config.json` of a training's workdir.

    Args:
        name: of a packaged config (`rain200h`) or path of a file, followed by `:ARGUMENT` if `get_config` takes one
            (`ablation:model_3`).
        changes: values of single fields, such as {"train.batch_size": 16}; see `apply_overrides`.

    Raises:
        ConfigError: there is no such config, the file fails or has no `get_config` that returns a config, the JSON is
            not a config, or a change is not allowed.
    """
    return apply_overrides(_load_json(name) if name.endswith(".json") else _load_python(name), (changes or {}).items())


def _load_python(name: str) -> ExperimentConfig:
    path, _, argument = name.partition(":")
    file = Path(path)
    if path.isidentifier():
        file = _FOLDER / f"{path}.py"
        if not file.is_file():
            raise ConfigError(f"there is no packaged config {path!r}{_nearest(path, packaged_configs())}")
    if not file.is_file():
        close = _nearest(path, sorted(map(str, file.parent.glob("*.py"))))
        packaged = f"; did you mean {file.stem!r}, which is packaged?" if file.stem in packaged_configs() else ""
        raise ConfigError(f"config file {path} does not exist{packaged or close}")
    spec = importlib.util.spec_from_file_location(f"config_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"config file {path} is not a Python file; take one such as configs/rain200h.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise ConfigError(f"{path} does not define get_config()")
        takes = bool(inspect.signature(module.get_config).parameters)
        if takes != bool(argument):
            hint = f"name one, as in {path}:NAME" if takes else f"leave out :{argument}"
            raise ConfigError(f"{path}: get_config takes {'an' if takes else 'no'} argument; {hint}")
        config = module.get_config(argument) if takes else module.get_config()
    except ConfigError:
        raise
    except Exception as error:  # of the user's code
        frames = traceback.extract_tb(error.__traceback__)
        line = next((f", line {frame.lineno}" for frame in reversed(frames) if frame.filename == spec.origin), "")
        what = " ".join(str(error).split())  # a SyntaxError names file and line itself
        raise ConfigError(f"config file {path}{line}: {type(error).__name__}: {what}") from None
    if not isinstance(config, ExperimentConfig):
        raise ConfigError(f"{path}: get_config() returned {type(config).__name__}, not ExperimentConfig")
    return config


def _load_json(name: str) -> ExperimentConfig:
    path = as_path(name)
    if not path.is_file():
        raise ConfigError(f"config file {name} does not exist; a training writes a {WORKDIR_CONFIG} into its workdir")
    try:
        return from_dict(ExperimentConfig, json.loads(path.read_bytes()))
    except (ValueError, TypeError, AttributeError) as error:  # ConfigError, too
        raise ConfigError(f"{name} is not a config that a training of this version wrote: {error}") from None


def apply_overrides(config: Config, overrides: Iterable[tuple[str, Any]]) -> Config:
    """Replace single fields, all at once: their order does not matter, and only the resulting config must be valid.

    Args:
        config: a config dataclass.
        overrides: pairs of a dotted field (`train.batch_size`, `data.train.0.root`) and its new value, or that as text.
            If a field occurs several times, the last value counts.

    Raises:
        ConfigError: a field does not exist (the nearest name is suggested) or a value is not allowed.
    """
    changes = [(name.split("."), value, name) for name, value in overrides]
    return _replace(config, changes) if changes else config


_Change = tuple[Sequence[str], Any, str]  # the parts of the name below a node, the value, the whole name


def _replace(node: Any, changes: Sequence[_Change]) -> Any:
    inner: dict[str, list[_Change]] = {}
    for parts, new, full in changes:
        _check_name(node, parts, full)
        inner.setdefault(parts[0], []).append((parts[1:], new, full))
    if isinstance(node, tuple):
        return tuple(_change(item, type(item), inner.get(str(index), [])) for index, item in enumerate(node))
    hints = typing.get_type_hints(type(node))
    values = {name: _change(getattr(node, name), hints[name], below) for name, below in inner.items()}
    return dataclasses.replace(node, **values)


def _check_name(node: Any, parts: Sequence[str], full: str) -> None:
    head = parts[0]
    if isinstance(node, tuple):
        if head not in map(str, range(len(node))):
            raise ConfigError(f"{full}: {head!r} is not an index of {len(node)} entries; allowed: 0 to {len(node) - 1}")
    elif not dataclasses.is_dataclass(node):
        raise ConfigError(
            f"config field {full!r} does not exist: {'.'.join(full.split('.')[: -len(parts)])} is a value"
        )
    else:
        names = [item.name for item in dataclasses.fields(node)]
        if head not in names:
            raise ConfigError(f"config field {full!r} does not exist{_nearest(head, names, every_field(node))}")


def _change(value: Any, hint: Any, changes: Sequence[_Change]) -> Any:
    below: list[_Change] = []
    for parts, new, full in changes:
        if parts:
            below.append((parts, new, full))
        elif not isinstance(new, str):
            value, below = new, []
        elif dataclasses.is_dataclass(value):
            inner = ", ".join(item.name for item in dataclasses.fields(value))
            raise ConfigError(f"config field {full!r} is a group; set one of its fields: {inner}")
        else:
            value, below = _parse(new, hint, full), []
    return _replace(value, below) if below else value


def _nearest(name: str, *choices: Sequence[str]) -> str:
    for names in choices:
        close = difflib.get_close_matches(name, names, n=1)
        if close:
            return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(choices[0])}" if choices and choices[0] else ""


def every_field(config: Any) -> list[str]:
    """Dotted names of all fields below a config; those of a tuple's entries are numbered."""
    return [name for name, _, _ in _leaves(config)]


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted name, dataclass that holds it, and value of every field."""
    for item in dataclasses.fields(node):
        name, value = f"{prefix}{item.name}", getattr(node, item.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{name}.")
        elif isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
            for number, entry in enumerate(value):
                yield from _leaves(entry, f"{name}.{number}.")
        else:
            yield name, node, value


def describe_config(config: ExperimentConfig) -> str:
    """A line for each field: the option that sets it, and its comment in `multifocal_jax.config`."""
    from simple_parsing.docstring import get_attribute_docstring

    lines = []
    for name, owner, value in _leaves(config):
        about = get_attribute_docstring(type(owner), name.rpartition(".")[2])
        comment = about.comment_inline or " ".join(about.comment_above.split())
        lines.append(f"{Change(name, None, value).override():<44}  # {comment}")
    return "\n".join(lines)


def _parse(text: str, hint: Any, full: str) -> Any:
    """Parse a value according to its annotation; the dataclass then checks whether it is allowed."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        by_text = {str(arg): arg for arg in args}
        if text not in by_text:
            raise ConfigError(f"{full} is {text!r}; allowed: {', '.join(by_text)}")
        return by_text[text]
    if origin in (typing.Union, types.UnionType):
        return None if text == "None" else _parse(text, args[0], full)
    if hint is str:
        return text
    if hint is bool:
        if text.lower() not in ("true", "false"):
            raise ConfigError(f"{full} is {text!r}; allowed: True, False")
        return text.lower() == "true"
    try:
        if hint is float:
            return float(text)
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        kind = "a tuple such as (1,3,6,8)" if origin is tuple else f"{hint.__name__}"
        raise ConfigError(f"{full} is {text!r}; allowed: {kind}") from None
    return tuple(value) if origin is tuple and isinstance(value, list) else value


def to_dict(config: Any) -> dict[str, Any]:
    """The config as nested dictionaries of JSON's types."""
    return dataclasses.asdict(config)


def from_dict(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """The inverse of `to_dict`; fields that are missing take their defaults.

    Raises:
        ConfigError: a field is unknown or its value is not allowed.
    """
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(f"unknown fields {', '.join(unknown)} of {kind.__name__}; known: {', '.join(hints)}")
    return kind(**{name: _revive(value, hints[name]) for name, value in values.items()})


def _revive(value: Any, hint: Any) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return from_dict(typing.cast(type, hint), value)
    if typing.get_origin(hint) is tuple:
        return tuple(_revive(item, typing.get_args(hint)[0]) for item in value)
    return value


@dataclasses.dataclass(frozen=True)
class Change:
    """A field in which two configs differ."""

    name: str  # dotted, such as train.batch_size or data.train.0.repeat
    before: Any
    after: Any

    def __str__(self) -> str:
        """`train.batch_size: 4 -> 16`."""
        return f"{self.name}: {self.before!r} -> {self.after!r}"

    def override(self, prefix: str = "config.") -> str:
        """The change as a command-line argument: `--config.train.batch_size=16`."""
        return shlex.quote(f"--{prefix}{self.name}={self.after}")


def changed_fields(old: Any, new: Any, prefix: str = "") -> list[Change]:
    """The fields in which two configs of one type differ, also within tuples of equally many configs."""
    changes = []
    for item in dataclasses.fields(old):
        changes += _changes(getattr(old, item.name), getattr(new, item.name), f"{prefix}{item.name}")
    return changes


def _changes(before: Any, after: Any, name: str) -> list[Change]:
    if dataclasses.is_dataclass(before):
        return changed_fields(before, after, f"{name}.")
    if isinstance(before, tuple) and len(before) == len(after) and any(map(dataclasses.is_dataclass, before)):
        pairs = enumerate(zip(before, after, strict=True))
        return [change for number, (one, other) in pairs for change in _changes(one, other, f"{name}.{number}")]
    return [] if before == after else [Change(name, before, after)]
