"""How many kernels a compiled program launches, read off its text."""

import re

# Instructions that only rename, or that end what another began
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier", "partition-id"),
    *("replica-id", "add-dependency", "while", "call", "conditional", "async-done", "all-reduce-done", "copy-done"),
}
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = .*?[\])}] ([\w\-]+)\(")
_CALLED = re.compile(r"(?:body|to_apply|calls)=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


def count_kernels(program: str) -> int:
    """Launches per run: instructions of the entry computation that compute or copy, loops by their number of turns.

    Args:
        program: optimised HLO, `jax.stages.Compiled.as_text()`.
    """
    bodies: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in program.splitlines():
        if found := _COMPUTATION.match(line):
            lines = bodies.setdefault(found[2], [])
            entry = found[2] if found[1] else entry
        elif line.startswith(" "):
            lines.append(line)
    return _launches(bodies, entry)


def _launches(bodies: dict[str, list[str]], name: str) -> int:
    total = 0
    for line in bodies.get(name, []):
        found = _INSTRUCTION.match(line)
        if not found:
            continue
        if found[1] in ("while", "call"):
            trips = _TRIPS.search(line) if found[1] == "while" else None
            called = _CALLED.search(line)
            total += (int(trips[1]) if trips else 1) * (_launches(bodies, called[1]) if called else 0)
        elif found[1] not in _FREE:
            total += 1
    return total
