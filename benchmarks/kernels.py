"""How many kernels a compiled program launches and what they read and write, read off its text."""

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

# Instructions that only rename, or that end what another began
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier", "partition-id"),
    *("replica-id", "add-dependency", "conditional", "async-done", "all-reduce-done", "copy-done"),
}
WIDTHS = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8}
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?[\])}]) ([\w\-]+)\((.*?)\)")
_CALLED = re.compile(r"(?:body|to_apply|calls)=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


class Launches(NamedTuple):
    """What a run of a program does; the branches of conditionals are not counted.

    Attributes:
        kernels: instructions that compute or copy, in loops by their number of turns.
        bytes: that these read and write, if each reads all of its operands once; of what library calls take, without
            their scratch space.
    """

    kernels: int
    bytes: int


@dataclass(frozen=True)
class _Instruction:
    line: str
    shape: str
    operation: str
    operands: tuple[str, ...]


def count_kernels(program: str) -> int:
    """Launches per run of a program.

    Args:
        program: optimised HLO, `jax.stages.Compiled.as_text()`.
    """
    return count_launches(program).kernels


def count_launches(program: str) -> Launches:
    """Launches per run of a program, and their traffic.

    Args:
        program: optimised HLO, `jax.stages.Compiled.as_text()`.
    """
    bodies: dict[str, dict[str, _Instruction]] = {}
    entry, body = "", {}
    for line in program.splitlines():
        if found := _COMPUTATION.match(line):
            body = bodies.setdefault(found[2], {})
            entry = found[2] if found[1] else entry
        elif found := _INSTRUCTION.match(line):
            body[found[1]] = _Instruction(line, found[2], found[3], tuple(re.findall(r"%([\w.\-]+)", found[4])))
    return _launches(bodies, entry)


def byte_count(shape: str, but: tuple[str, ...] = ()) -> int:
    """Bytes of a shape as HLO writes it, of all its parts if it is a tuple, leaving out some types."""
    found = [(kind, size) for kind, size in re.findall(r"(\w+)\[([\d,]*)\]", shape) if kind not in but]
    return sum(WIDTHS.get(kind, 4) * math.prod(int(n) for n in size.split(",") if n) for kind, size in found)


def _launches(bodies: dict[str, dict[str, _Instruction]], name: str) -> Launches:
    kernels = moved = 0
    body = bodies.get(name, {})
    for instruction in body.values():
        if instruction.operation in ("while", "call"):
            trips = _TRIPS.search(instruction.line) if instruction.operation == "while" else None
            called = _CALLED.search(instruction.line)
            inner = _launches(bodies, called[1]) if called else Launches(0, 0)
            turns = int(trips[1]) if trips else 1
            kernels, moved = kernels + turns * inner.kernels, moved + turns * inner.bytes
        elif instruction.operation not in _FREE:
            scratch = ("s8", "u8") if instruction.operation == "custom-call" else ()
            kernels += 1
            moved += byte_count(instruction.shape, scratch)
            moved += sum(byte_count(body[operand].shape) for operand in instruction.operands if operand in body)
    return Launches(kernels, moved)
