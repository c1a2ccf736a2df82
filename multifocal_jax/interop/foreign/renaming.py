"""Files that map another code base's names to ours.

One line each, theirs first:

    # comments and empty lines are skipped
    blocks.{m}.sa{l+1}.theta = module_{m}.spatial.level_{l}.query

A line names a convolution (its weight and bias follow) or, ending in `.weight` or `.bias`, one tensor. `{m}` stands for
a number and means the same number on both sides; `{l+1}` on their side is one more than on ours, `{l*2}` twice as much,
`{l^2}` two to the power of ours. Our names are those of the JAX network; those of the PyTorch network work as well.
Names that no line maps stay unchanged, so a file needs only what differs. A tensor of theirs that we do not use is
dropped with `-` on our side: `dwt.filter = -`.

The same file maps our names to theirs; tensors that it drops are not recreated.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from multifocal_jax.config import ModelConfig
from multifocal_jax.interop.errors import ConversionError
from multifocal_jax.interop.names import Parameter, flax_to_torch, parameters

DROPPED = "-"  # stands for our name of a tensor that we do not have
_PLACEHOLDER = re.compile(r"\{(\w+)(?:([+\-*^])(\d+))?\}")


@dataclass(frozen=True)
class Rule:
    """One line of a names file."""

    line: int
    theirs: str
    ours: str

    def rename(self, name: str) -> str | None:
        """Our name for `name`; None if the line does not match."""
        match = re.fullmatch(self._pattern(), name)
        if match is None:
            return None
        numbers: dict[str, int] = {}
        for index, (variable, operator, operand) in enumerate(_PLACEHOLDER.findall(self.theirs)):
            number = _undo(int(match[f"p{index}"]), operator, int(operand or 0))
            if number is None or numbers.setdefault(variable, number) != number:
                return None
        return _PLACEHOLDER.sub(lambda found: str(_do(numbers[found[1]], found[2], int(found[3] or 0))), self.ours)

    def _pattern(self) -> str:
        pattern, start = "", 0
        for index, found in enumerate(_PLACEHOLDER.finditer(self.theirs)):
            pattern += re.escape(self.theirs[start : found.start()]) + rf"(?P<p{index}>\d+)"
            start = found.end()
        return pattern + re.escape(self.theirs[start:])


def _do(number: int, operator: str | None, operand: int) -> int:
    if operator == "+":
        return number + operand
    if operator == "-":
        return number - operand
    if operator == "*":
        return number * operand
    return operand**number if operator == "^" else number


def _undo(number: int, operator: str | None, operand: int) -> int | None:
    """The number that `_do` maps to this one; None if there is none."""
    candidates = range(number + operand + 1) if operator else [number]
    return next((value for value in candidates if _do(value, operator, operand) == number), None)


def _variables(side: str) -> set[str]:
    return {found[0] for found in _PLACEHOLDER.findall(side)}


@dataclass(frozen=True)
class Renaming:
    """The rules of a names file; earlier lines take precedence."""

    source: str
    rules: tuple[Rule, ...]

    def apply(self, path: Path, tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], int]:
        """Rename tensors to the PyTorch network's names.

        Returns:
            The tensors in the order of the file without those that a rule drops, and how many were renamed.

        Raises:
            ConversionError: two tensors get the same name, or a line matches no tensor; all such are listed.
        """
        renamed: dict[str, np.ndarray] = {}
        origin: dict[str, str] = {}
        used: set[int] = set()
        problems = []
        for name, value in tensors.items():
            target, line = self.rename(name)
            if line:
                used.add(line)
            if target == DROPPED:
                continue
            if target in origin:
                problems.append(f"{origin[target]} and {name} both become {target}")
            origin[target] = name
            renamed[target] = value
        for rule in self.rules:
            if rule.line not in used:
                problems.append(f"line {rule.line} ({rule.theirs}) fits no tensor")
        if problems:
            raise ConversionError(f"{self.source} on {path}; nothing was written:\n  " + "\n  ".join(problems))
        return renamed, sum(origin[name] != name for name in origin)

    def restore(self, weights: str | Path, model: ModelConfig) -> dict[str, str]:
        """The reverse: their names of all parameters, by the PyTorch network's names.

        Args:
            weights: whose parameters they are, for the message.
            model: the architecture.

        Raises:
            ConversionError: a line matches no parameter, or does not determine their name; all such are listed.
        """
        found: dict[str, str] = {}
        used: set[int] = set()
        problems = [
            f"line {rule.line} ({rule.theirs} = {rule.ours}): {', '.join(sorted(lost))} does not occur on our side"
            for rule in self.rules
            if rule.ours != DROPPED and (lost := _variables(rule.theirs) - _variables(rule.ours))
        ]
        backwards = [Rule(rule.line, rule.ours, rule.theirs) for rule in self.rules if rule.ours != DROPPED]
        for parameter in [] if problems else parameters(model):
            name, line = self._restored(parameter, backwards)
            found[parameter.torch] = name
            used.add(line)
            if self.rename(name)[0] != parameter.torch:
                problems.append(f"no line gives {parameter.torch}, and {name} is another's name")
        unused = [rule for rule in backwards if rule.line not in used] if found else []
        problems += [f"line {rule.line} ({rule.ours} = {rule.theirs}) fits no tensor" for rule in unused]
        if problems:
            raise ConversionError(f"{self.source} on {weights}; nothing was written:\n  " + "\n  ".join(problems))
        return found

    def _restored(self, parameter: Parameter, backwards: Iterable[Rule]) -> tuple[str, int]:
        """Their name, if there is one that `rename` maps back to ours, and the line that gave it."""
        for rule in backwards:
            for ours in (parameter.flax, parameter.flax.replace(".kernel", ".weight"), parameter.torch):
                stem, _, leaf = ours.rpartition(".")
                whole, part = rule.rename(ours), rule.rename(stem)
                for theirs in (whole, part and f"{part}.{'weight' if leaf == 'kernel' else leaf}"):
                    if theirs and self.rename(theirs) == (parameter.torch, rule.line):
                        return theirs, rule.line
        return parameter.torch, 0

    def dropped(self, names: Iterable[str]) -> list[str]:
        """The tensors that a line drops."""
        return [name for name in names if self.rename(name)[0] == DROPPED]

    def rename(self, name: str) -> tuple[str, int]:
        """The PyTorch network's name for a tensor or `DROPPED`, and the line that gave it, 0 for none."""
        stem, _, leaf = name.rpartition(".")
        for rule in self.rules:
            target = rule.rename(name)
            if target is not None:
                return flax_to_torch(target), rule.line
            if leaf in ("weight", "bias"):
                target = rule.rename(stem)
                if target is not None:
                    return target if target == DROPPED else flax_to_torch(f"{target}.{leaf}"), rule.line
        return flax_to_torch(name), 0


def read_names(path: str | Path) -> Renaming:
    """Read a names file.

    Raises:
        ConversionError: it does not exist, or lines are not of the form above; all such lines are listed.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConversionError(f"names file {path} cannot be read: {error}") from None
    rules, problems = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        theirs, equals, ours = (part.strip() for part in content.partition("="))
        unknown = _variables(ours) - _variables(theirs)
        if not (equals and theirs and ours) or re.search(r"\s", theirs + ours):
            problems.append(f"line {number}: {content!r} is not THEIRS = OURS")
        elif unknown:
            problems.append(f"line {number}: {', '.join(sorted(unknown))} does not occur on their side")
        rules.append(Rule(number, theirs, ours))
    if problems:
        raise ConversionError(f"names file {path}:\n  " + "\n  ".join(problems))
    return Renaming(str(path), tuple(rules))
