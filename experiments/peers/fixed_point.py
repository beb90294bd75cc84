r"""Fixed points over all rows at once: the loop, Picard (ParaDiGMS) and ParaSolver's start.

Every method of this family guesses the states, calls the network once on all rows, and solves the recurrence
linearised around the guess, y_{i+1} = F_i(x_i) + A_i (y_i - x_i). After k rounds the first k states are exact,
whatever A; they are not evaluated again.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from experiments.peers.problem import Case, Estimate, Recurrence
from pcm_jax.recurrence.update import solve
from pcm_jax.types import Array


class Rule(Protocol):
    """How a round makes new states of old ones. Implementations are frozen dataclasses: rounds are compiled for them.

    cost: network evaluations of one row in one round, 1 for a bare call.
    """

    def cost(self, problem: Recurrence) -> float: ...

    def begin(self, problem: Recurrence) -> Any:
        """What the first round remembers: a pytree."""

    def round(self, problem: Recurrence, x: Array, known: Array, memory: Any, index: Array) -> tuple[Array, Any]:
        """(states 1 .. T `[T, B, ...]`, memory) from x `[T + 1, B, ...]`; states of rows `known` `[T]` are exact."""


class Start(NamedTuple):
    """states: `[T + 1, B, ...]`, of which the first `known` + 1 are exact. calls: network calls that made them."""

    states: Array
    known: int
    calls: int


def copies(problem: Recurrence) -> Start:
    """Every state is the noise: ParaDiGMS's start."""
    return Start(jnp.broadcast_to(problem.noise, (len(problem) + 1, *problem.noise.shape)), 0, 0)


@functools.partial(jax.jit, static_argnums=1)
def held_data(problem: Recurrence, warmup: int = 1) -> Start:
    r"""ParaSolver's start: `warmup` sequential calls, then the last data prediction held to the end.

        x_{i+1} = F_i(x_i), i < m;   x_j = hold(x_{m-1}, d_{m-1}(x_{m-1}), m - 1 -> j), j > m

    Lu, Zhu, Hou, "ParaSolver: A Hierarchical Parallel Integral Solver for Diffusion Models", ICLR 2025.
    """
    states = [problem.noise]
    for row in range(warmup):
        step, data = problem.advance(jnp.array([row]), states[-1][None])
        states.append(step[0])
    last = states[warmup - 1]
    states += [problem.hold(last, data[0], warmup - 1, row) for row in range(warmup + 1, len(problem) + 1)]
    return Start(jnp.stack(states), warmup, warmup)


def iterate(case: Case, rule: Rule, start: Start | None = None) -> Iterator[Estimate]:
    """Rounds until every state is exact."""
    problem = case.recurrence
    x, known, calls = copies(problem) if start is None else start
    known, calls = int(known), int(calls)
    memory, evaluations = rule.begin(problem), float(calls)
    for index in range(len(problem) - known):
        x, memory = _round(rule, problem, x, memory, jnp.asarray(known), jnp.asarray(index))
        evaluations += rule.cost(problem) * (len(problem) - known)
        known, calls = known + 1, calls + 1
        yield Estimate(x[-1], calls, evaluations)


@functools.partial(jax.jit, static_argnums=0)
def _round(rule: Rule, problem: Recurrence, x: Array, memory: Any, count: Array, index: Array) -> tuple[Array, Any]:
    known = jnp.arange(len(problem)) < count
    y, memory = rule.round(problem, x, known, memory, index)
    return jnp.concatenate([x[:1], jnp.where(expand(known, y), x[1:], y)]), memory


def expand(mask: Array, like: Array) -> Array:
    """Trailing axes of size one, up to those of `like`."""
    return mask.reshape(mask.shape + (1,) * (like.ndim - mask.ndim))


@dataclasses.dataclass(frozen=True)
class Picard:
    r"""ParaDiGMS: A = 1, the cumulative sum x_0 + sum_{j <= i} (F_j(x_j) - x_j); arXiv 2305.16317."""

    def cost(self, problem: Recurrence) -> float:
        return 1.0

    def begin(self, problem: Recurrence) -> None:
        return None

    def round(self, problem: Recurrence, x: Array, known: Array, memory: None, index: Array) -> tuple[Array, None]:
        step = problem.steps(x[:-1])
        return solve(x[1:], step, jnp.ones(step.shape[:2], x.dtype)), None


def paradigms(case: Case) -> Iterator[Estimate]:
    """Picard with a window of all rows, from copies of the noise."""
    return iterate(case, Picard())


def parasolver(case: Case, warmup: int = 1) -> Iterator[Estimate]:
    """Picard from a held data prediction."""
    return iterate(case, Picard(), held_data(case.recurrence, warmup))
