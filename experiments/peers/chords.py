r"""CHORDS: cores that start at staggered rows, the slower ones rectifying the faster.

Core k jumps to row I_k by coarse steps (G, the data prediction held) and from there takes every step, one a round.
Where core k began, at row s with state x_s, its slower neighbour arrives later with a better one; then

    x_{t+1} <- F(x_t) - G(x_s, s -> t + 1) + G(x_s of core k - 1, s -> t + 1)

and the core counts as having begun at t + 1. The last core ends first, the first one is the sequential sampler. Han et
al., "CHORDS: Diffusion Sampling Accelerator with Multi-core Hierarchical ODE Solvers", arXiv 2507.15260. Published for
ODEs; on a stochastic sampler, G here carries the sampler's own noise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from experiments.peers.problem import Case, Estimate, Recurrence
from pcm_jax.types import Array

STARTS = (0, 2, 4, 8, 16, 24, 32, 40)
"""The authors' rows for eight cores and 50 steps (hanjq17/CHORDS), scaled to other numbers of steps."""

Seen = tuple[int, Array, Array]
"""(row, state, data prediction there)."""


@dataclasses.dataclass(eq=False)
class Core:
    """row, x: where it is. begun: where its last correction left it, once evaluated. seen: its last evaluation."""

    row: int
    x: Array
    begun: Seen | None = None
    seen: Seen | None = None
    since: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.since = self.row


def starts(steps: int) -> tuple[int, ...]:
    """Rows at which the cores begin, each behind the one before."""
    found: list[int] = []
    for row in STARTS:
        at = row * steps // 50
        if not found or found[-1] < at:
            found.append(at)
    return tuple(found)


def chords(case: Case) -> Iterator[Estimate]:
    """The coarse jump to the end, then what each core ends with, the fastest first."""
    problem = case.recurrence
    steps, begin = len(problem), starts(len(case.recurrence))
    cores = [Core(0, problem.noise)]
    evaluations = 0
    for calls in range(1, steps + 1):
        live = [core for core in cores if core.row < steps]
        evaluations += len(live)
        # Padded to all cores: one shape, one compilation.
        places = live + [live[-1]] * (len(begin) - len(live))
        rows, states = jnp.array([core.row for core in places]), jnp.stack([core.x for core in places])
        new, data = _advance(problem, rows, states)
        for index, core in enumerate(live):
            core.seen = (core.row, core.x, data[index])
            core.begun = core.seen if core.row == core.since else core.begun
        ended = []
        if cores[-1].row == begin[len(cores) - 1] and cores[-1] in live:
            target = steps if len(cores) == len(begin) else begin[len(cores)]
            x = _hold(problem, *_at(cores[-1].seen), target)
            if target == steps:
                ended.append(x)
            else:
                cores.append(Core(target, x))
        for index, core in enumerate(live):
            slower = cores[cores.index(core) - 1].seen if core is not cores[0] else None
            core.row, core.x = core.row + 1, new[index]
            if slower is not None and core.begun is not None and slower[0] == core.begun[0]:
                rough, better = (_hold(problem, *_at(seen), core.row) for seen in (core.begun, slower))
                core.x, core.since, core.begun = core.x + (better - rough), core.row, None
            if core.row == steps:
                ended.append(core.x)
        for x in ended:
            yield Estimate(x, calls, evaluations)


def _at(seen: Seen | None) -> tuple[Array, Array, int]:
    assert seen is not None
    return seen[1], seen[2], seen[0]


@jax.jit
def _advance(problem: Recurrence, rows: Array, x: Array) -> tuple[Array, Array]:
    return problem.advance(rows, x)


@jax.jit
def _hold(problem: Recurrence, x: Array, data: Array, start: Array, end: Array) -> Array:
    return problem.hold(x, data, start, end)
