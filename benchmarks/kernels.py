"""Counts the kernels that a compiled program launches, from its text."""

import re
from typing import NamedTuple

# Instructions that only rename, or that complete another one
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier", "partition-id"),
    *("replica-id", "add-dependency", "conditional", "async-done", "all-reduce-done", "copy-done"),
}
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = .*?[\])}] ([\w\-]+)\(")
_CALLED = re.compile(r"(?:body|to_apply|calls)=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


class _Instruction(NamedTuple):
    line: str
    operation: str


def count_kernels(program: str) -> int:
    """Launches per run of a program: instructions that compute or copy, times the iterations of their loop.

    The branches of conditionals are not counted.

    Args:
        program: optimised HLO, `jax.stages.Compiled.as_text()`.
    """
    bodies: dict[str, list[_Instruction]] = {}
    entry, body = "", []
    for line in program.splitlines():
        if found := _COMPUTATION.match(line):
            body = bodies.setdefault(found[2], [])
            entry = found[2] if found[1] else entry
        elif found := _INSTRUCTION.match(line):
            body.append(_Instruction(line, found[1]))
    return _count(bodies, entry)


def _count(bodies: dict[str, list[_Instruction]], name: str) -> int:
    kernels = 0
    for instruction in bodies.get(name, []):
        if instruction.operation in ("while", "call"):
            trips = _TRIPS.search(instruction.line) if instruction.operation == "while" else None
            called = _CALLED.search(instruction.line)
            kernels += (int(trips[1]) if trips else 1) * (_count(bodies, called[1]) if called else 0)
        elif instruction.operation not in _FREE:
            kernels += 1
    return kernels
