"""The table's lines: what runs, where it applies, and whose it is."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from experiments.peers.chords import chords
from experiments.peers.deer import deer, quasi_deer
from experiments.peers.few_step import few_step
from experiments.peers.fixed_point import paradigms, parasolver
from experiments.peers.ours import NEEDS_ADAPTER, NEEDS_PRIOR, OPTIONS, ours
from experiments.peers.parataa import MEMORIES, anderson, parataa
from experiments.peers.problem import Case, Estimate, Run
from experiments.peers.srds import srds

SMALL, FEW = 64, 16
"""Of exact DEER: dimensions up to which it is run, and how many samples. Its cost grows with their product."""


@dataclasses.dataclass(frozen=True)
class Method:
    """variants: name -> run; the best of them is reported, by mean calls to the middle error.

    family: whose it is, "fewer" for sequential samplers of fewer steps. samples: at most so many of the case's.
    """

    variants: Mapping[str, Run]
    family: Literal["peer", "ours", "fewer"]
    samples: int | None = None

    def applies(self, name: str, case: Case) -> bool:
        """Fewer steps only from the same noise, adapters where one ships, all of the Jacobian where it is small."""
        if self.family == "fewer":
            return case.few is not None
        if name == "DEER, exact Jacobian":
            return case.recurrence.noise[0].size <= SMALL
        option = name.removeprefix("ours: ")
        return (case.adapter is not None or option not in NEEDS_ADAPTER) and (
            case.prior is not None or option not in NEEDS_PRIOR
        )


def _memories(run: Callable[..., Iterator[Estimate]]) -> dict[str, Run]:
    return {f"memory {memory}": functools.partial(run, memory=memory) for memory in MEMORIES}


METHODS: dict[str, Method] = {
    "ParaDiGMS": Method({"": paradigms}, "peer"),
    "ParaTAA": Method(_memories(parataa), "peer"),
    "ParaSolver": Method(
        {f"{warmup} calls first": functools.partial(parasolver, warmup=warmup) for warmup in (1, 5)}, "peer"
    ),
    "SRDS": Method({"": srds}, "peer"),
    "CHORDS": Method({"": chords}, "peer"),
    "Anderson": Method(_memories(anderson), "peer"),
    "quasi-DEER": Method({"": quasi_deer}, "peer"),
    "DEER, exact Jacobian": Method({"": deer}, "peer", samples=FEW),
    "DDIM-10": Method({"": functools.partial(few_step, kind="DDIM", steps=10)}, "fewer"),
    "DDIM-20": Method({"": functools.partial(few_step, kind="DDIM", steps=20)}, "fewer"),
    "DPM++-10": Method({"": functools.partial(few_step, kind="DPM++", steps=10)}, "fewer"),
} | {f"ours: {name}": Method({"": functools.partial(ours, name=name)}, "ours") for name in OPTIONS}
