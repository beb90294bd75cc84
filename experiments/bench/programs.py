"""What is in a compiled program: the collectives of a device, and the arrays that its loop carries from round to round.

Read from XLA's text of the optimised program of one device, in which every shape is the device's own part.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

from experiments.bench.hlo import computations

_BYTES = {"f64": 8, "f32": 4, "bf16": 2, "f16": 2, "s64": 8, "u64": 8, "s32": 4, "u32": 4, "s8": 1, "u8": 1, "pred": 1}
_COLLECTIVE = re.compile(
    r"= (?P<shape>\([^=]*?\)|\S+) (?P<kind>all-gather|all-reduce|reduce-scatter|collective-permute|all-to-all)"
    r"(?:-start)?\("
)
_SHAPE = re.compile(r"(?P<dtype>[a-z]+\d*)\[(?P<dims>[\d,]*)\]")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_WHILE = re.compile(r"= (?P<shape>\(.*?\)) while\(.*body=%?(?P<body>[\w.\-]+)")


class Collective(NamedTuple):
    """One transfer: its kind, and the shapes that a device gets or gives."""

    kind: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def size(self) -> int:
        """Bytes that it writes on each device."""
        return sum(_size(*shape) for shape in self.shapes)


def collectives(text: str) -> list[Collective]:
    """Of a whole program; those in a loop's body once."""
    return [Collective(match["kind"], _shapes(match["shape"])) for match in _COLLECTIVE.finditer(text)]


def in_loop(text: str) -> list[Collective]:
    """Of the body of the longest loop, which is the one that calls the network: of one round."""
    return collectives(_body(text, _loop(text)))


def carried(text: str) -> list[tuple[str, tuple[int, ...]]]:
    """(dtype, shape) of all that this loop carries, on one device."""
    return list(_shapes(_loop(text)["shape"]))


def state_bytes(text: str, sample_shape: tuple[int, ...]) -> int:
    """Of the carried arrays that hold samples: states, history, step noise, guess; their last axes are a sample's."""
    count = len(sample_shape)
    return sum(_size(dtype, shape) for dtype, shape in carried(text) if shape[-count:] == tuple(sample_shape))


def by_kind(found: list[Collective]) -> dict[str, int]:
    """Bytes of each kind of collective."""
    total: dict[str, int] = {}
    for each in found:
        total[each.kind] = total.get(each.kind, 0) + each.size
    return total


def _loop(text: str) -> Any:
    loops = list(_WHILE.finditer(text))
    if not loops:
        raise ValueError("the program has no loop")
    return max(loops, key=lambda match: len(_body(text, match)))


def _body(text: str, loop: Any) -> str:
    return "\n".join(_reachable(computations(text), loop["body"]))


def _shapes(text: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple(
        (match["dtype"], tuple(int(dim) for dim in match["dims"].split(",") if dim)) for match in _SHAPE.finditer(text)
    )


def _size(dtype: str, shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * _BYTES[dtype]


def _reachable(known: dict[str, list[str]], name: str) -> list[str]:
    seen: dict[str, str] = {}
    todo = [name]
    while todo:
        name = todo.pop()
        if name in seen or name not in known:
            continue
        seen[name] = "\n".join(known[name])
        todo += _CALLED.findall(seen[name])
        todo += [each.strip().lstrip("%") for group in _BRANCHES.findall(seen[name]) for each in group.split(",")]
    return list(seen.values())
