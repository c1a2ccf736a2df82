"""Files that map another code base's names to ours.

One line each, theirs first:

    # comments and empty lines are skipped
    blocks.{m}.sa{l+1}.theta = module_{m}.spatial.level_{l}.query

A line names a convolution (its weight and bias follow) or, ending in `.weight` or `.bias`, one tensor. `{m}` stands for
a number and means the same number on both sides; `{l+1}` on their side is one more than on ours, `{l*2}` twice as much,
`{l^2}` two to the power of ours. Our names are those of the JAX network; those of the PyTorch network work as well.
Names that no line maps stay unchanged, so a file needs only what differs. A tensor of theirs that we do not use is
dropped with `-` on our side: `dwt.filter = -`.

A prefix that reading drops from every name, such as `net.`, may be given or left out. The same file maps our names to
theirs, as they stand in it; tensors that it drops are not recreated.
"""

import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from multifocal_jax.config import ModelConfig
from multifocal_jax.interop.errors import ConversionError
from multifocal_jax.interop.names import Parameter, flax_to_torch, parameters
from multifocal_jax.interop.torch_files import TorchCheckpoint

DROPPED = "-"  # stands for our name of a tensor that we do not have
_PLACEHOLDER = re.compile(r"\{(\w+)(?:([+\-*^])(\d+))?\}")
_OPERATORS = {
    "": lambda number, _: number,
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "^": lambda number, base: base**number,
}


@dataclass(frozen=True)
class Rule:
    """One line of a names file."""

    line: int
    theirs: str
    ours: str

    def rename(self, name: str) -> str | None:
        """Our name for `name`; None if the line does not match."""
        texts = _PLACEHOLDER.split(self.theirs)[:: _PLACEHOLDER.groups + 1]
        match = re.fullmatch(r"(\d+)".join(map(re.escape, texts)), name)
        if match is None:
            return None
        numbers: dict[str, int] = {}
        for found, (variable, sign, operand) in zip(match.groups(), _PLACEHOLDER.findall(self.theirs), strict=True):
            number = _undo(int(found), sign, int(operand or 0))
            if number is None or numbers.setdefault(variable, number) != number:
                return None
        return _PLACEHOLDER.sub(
            lambda found: str(_OPERATORS[found[2] or ""](numbers[found[1]], int(found[3] or 0))), self.ours
        )


def _undo(number: int, sign: str, operand: int) -> int | None:
    """The number that an operator maps to this one; None if there is none."""
    candidates = {
        "": [number],
        "+": [number - operand],
        "-": [number + operand],
        "*": [number // max(operand, 1)],
        "^": range(number.bit_length()),  # 2**n has n + 1 bits
    }[sign]
    return next((value for value in candidates if value >= 0 and _OPERATORS[sign](value, operand) == number), None)


def _variables(side: str) -> set[str]:
    return {found[0] for found in _PLACEHOLDER.findall(side)}


@dataclass(frozen=True)
class Renaming:
    """The rules of a names file; earlier lines take precedence."""

    source: str
    rules: tuple[Rule, ...]
    prefixes: tuple[str, ...] = ("",)  # which lines may have before a name

    def within(self, checkpoint: TorchCheckpoint) -> "Renaming":
        """The same for this checkpoint: lines may have the prefix that reading dropped, or its class's part of it."""
        return replace(self, prefixes=tuple(dict.fromkeys((checkpoint.prefix, checkpoint.class_prefix, ""))))

    def apply(self, path: Path, tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], int]:
        """Rename tensors to the PyTorch network's names.

        Returns:
            The tensors in the order of the file without those that a rule drops, and how many were renamed.

        Raises:
            ConversionError: two tensors get the same name, or a line matches no tensor; all such are listed.
        """
        renamed, origin, used, problems = dict[str, np.ndarray](), dict[str, str](), {0}, list[str]()
        for name, value in tensors.items():
            target, line = self.rename(name)
            used.add(line)
            if target == DROPPED:
                continue
            if target in origin:
                problems.append(f"{origin[target]} and {name} both become {target}")
            origin[target] = name
            renamed[target] = value
        unused = (rule for rule in self.rules if rule.line not in used)
        self._refuse(path, [*problems, *(f"line {rule.line} ({rule.theirs}) fits no tensor" for rule in unused)])
        return renamed, sum(origin[name] != name for name in origin)

    def restore(self, weights: str | Path, model: ModelConfig) -> dict[str, str]:
        """The reverse: their names of all parameters, by the PyTorch network's names.

        `weights`, whose parameters they are, is for the message.

        Raises:
            ConversionError: a line matches no parameter, or does not determine their name; all such are listed.
        """
        lost = {rule: ", ".join(sorted(_variables(rule.theirs) - _variables(rule.ours))) for rule in self._kept}
        problems = [
            f"line {rule.line} ({rule.theirs} = {rule.ours}): {names} does not occur on our side"
            for rule, names in lost.items()
            if names
        ]
        self._refuse(weights, problems)
        found, used = dict[str, str](), set[int]()
        for parameter in parameters(model):
            name, line = self._restored(parameter)
            found[parameter.torch] = name
            used.add(line)
            if self.rename(name)[0] != parameter.torch:
                problems.append(f"no line gives {parameter.torch}, and {name} is another's name")
        unused = (rule for rule in self._kept if rule.line not in used)
        problems += [f"line {rule.line} ({rule.theirs} = {rule.ours}) fits no tensor" for rule in unused]
        self._refuse(weights, problems)
        return found

    @property
    def _kept(self) -> list[Rule]:
        return [rule for rule in self.rules if rule.ours != DROPPED]

    def _refuse(self, path: str | Path, problems: list[str]) -> None:
        if problems:
            raise ConversionError(f"{self.source} on {path}; nothing was written:\n  " + "\n  ".join(problems))

    def _restored(self, parameter: Parameter) -> tuple[str, int]:
        """Their name, if there is one that `rename` maps back to ours, and the line that gave it."""
        for rule in self._kept:
            backwards = Rule(rule.line, rule.ours, rule.theirs)
            for ours in (parameter.flax, parameter.flax.replace(".kernel", ".weight"), parameter.torch):
                stem, _, leaf = ours.rpartition(".")
                whole, part = backwards.rename(ours), backwards.rename(stem)
                for theirs in (whole, part and f"{part}.{'weight' if leaf == 'kernel' else leaf}"):
                    if theirs and self.rename(theirs) == (parameter.torch, rule.line):
                        return theirs, rule.line
        return parameter.torch, 0

    def dropped(self, names: Iterable[str]) -> list[str]:
        """The tensors that a line drops."""
        return [name for name in names if self.rename(name)[0] == DROPPED]

    def rename(self, name: str) -> tuple[str, int]:
        """The PyTorch network's name for a tensor or `DROPPED`, and the line that gave it, 0 for none."""
        for prefix, rule in product(self.prefixes, self.rules):
            stem, _, leaf = f"{prefix}{name}".rpartition(".")
            if target := rule.rename(f"{prefix}{name}"):
                return flax_to_torch(target), rule.line
            if leaf in ("weight", "bias") and (target := rule.rename(stem)):
                return target if target == DROPPED else flax_to_torch(f"{target}.{leaf}"), rule.line
        return flax_to_torch(name), 0


def read_names(path: str | Path) -> Renaming:
    """Read a names file.

    Raises:
        ConversionError: it does not exist, or lines are not of the form above; all such lines are listed.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConversionError(f"names file {path} cannot be read: {error}") from None
    rules, problems = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        theirs, _, ours = (part.strip() for part in content.partition("="))
        unknown = _variables(ours) - _variables(theirs)
        if not (theirs and ours) or re.search(r"\s", theirs + ours):
            problems.append(f"line {number}: {content!r} is not THEIRS = OURS")
        elif unknown:
            problems.append(f"line {number}: {', '.join(sorted(unknown))} does not occur on their side")
        rules.append(Rule(number, theirs, ours))
    if problems:
        raise ConversionError(f"names file {path}:\n  " + "\n  ".join(problems))
    return Renaming(str(path), tuple(rules))
