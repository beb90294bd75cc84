"""What a compiled program launches: its kernels, counted in the text of the optimized HLO."""

from __future__ import annotations

import collections
import re

FREE = {"after-all", "bitcast", "constant", "get-tuple-element", "parameter", "tuple"}
"""Operations that launch nothing."""

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_OPERATION = re.compile(r" = (?:\(.*?\)|\S+) ([a-z][\w\-]*)\(")
_LOOP = re.compile(r" while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)")


def computations(hlo: str) -> dict[str, list[str]]:
    """The lines of every computation by its name; the program itself is "ENTRY"."""
    found: dict[str, list[str]] = {}
    name = None
    for line in hlo.splitlines():
        head = _COMPUTATION.match(line)
        if head:
            name = "ENTRY" if line.startswith("ENTRY") else head[1]
            found[name] = []
        elif line.startswith("}"):
            name = None
        elif name is not None:
            found[name].append(line.strip())
    return found


def kernels(lines: list[str]) -> collections.Counter[str]:
    """How many operations of each kind a computation launches; a loop or branch inside it counts as one."""
    kinds = (_OPERATION.search(line) for line in lines)
    return collections.Counter(kind[1] for kind in kinds if kind and kind[1] not in FREE)


def loop_kernels(hlo: str) -> int:
    """Kernels that one iteration of the program's largest loop launches, its condition's among them."""
    parts = computations(hlo)
    sizes = []
    for lines in parts.values():
        for line in lines:
            loop = _LOOP.search(line)
            if loop:
                sizes.append(sum(sum(kernels(parts[name]).values()) for name in loop.groups()))
    if not sizes:
        raise ValueError("the program has no loop")
    return max(sizes)


def program_kernels(hlo: str) -> int:
    """Kernels that the program launches outside of loops and branches."""
    return sum(kernels(computations(hlo)["ENTRY"]).values())
