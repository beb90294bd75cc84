"""What can be tuned: a solver's table with a model, and a user's own scan."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from pcm_jax.results import Outcome
from pcm_jax.sampling import sample_picard, sample_sequential
from pcm_jax.scanning import scan, scan_sequential
from pcm_jax.scanning.trace import Step, Traced
from pcm_jax.solvers import Solver
from pcm_jax.types import Array, Cond, ModelFn, PyTree, is_shared, rows_of

MIX = 1e-3
"""Of what a call returns, in what the next one is given: calls that wait for each other, on inputs that stay as they
were. Times or rows move on too, or XLA would take what depends on them alone out of the loop."""


@dataclasses.dataclass(frozen=True)
class TableSubject:
    """A sampler. held: (params, cond, prior, adapter); a draw: (noise, key, step_noise). options: of both samplers'."""

    model_fn: ModelFn
    solver: Solver
    held: Any
    draws: Sequence[Any]
    tol: float
    options: Mapping[str, Any]
    name: str = "sample"

    @property
    def steps(self) -> int:
        return len(self.solver)

    @property
    def least(self) -> int:
        return rows_of(self.model_fn)

    @property
    def batch(self) -> int:
        return int(self.draws[0][0].shape[0]) * self.least

    def network(self, rows: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        params, cond, _, _ = self.held
        noise = self.draws[0][0]
        states = rows // self.least
        sample = jnp.arange(states) % noise.shape[0]

        def lookup(leaf: Any) -> Any:
            return leaf if is_shared(leaf) else jnp.asarray(leaf)[sample]

        conds: Cond = jax.tree.map(lookup, cond, is_leaf=is_shared)
        times = jnp.resize(jnp.asarray(self.solver.time, jnp.float32), (states,))

        def calls(count: Array, params: PyTree, x: Array, times: Array, conds: Cond) -> Array:
            def body(index: Array, now: Array) -> Array:
                found = self.model_fn(params, now, times + 1e-6 * index, conds)
                return (x + MIX * found).astype(x.dtype)

            return jax.lax.fori_loop(0, count, body, x)

        return calls, (params, jnp.asarray(noise)[sample], times, conds)

    def sequential(self, held: Any, draw: Any) -> Outcome:
        (params, cond, _, _), (noise, key, z) = held, draw
        return sample_sequential(self.model_fn, params, noise, self.solver, cond=cond, key=key, step_noise=z)

    def parallel(self, held: Any, draw: Any, window: int, microbatch: int | None, max_rounds: int | None) -> Outcome:
        (params, cond, prior, adapter), (noise, key, z) = held, draw
        how: dict[str, Any] = {"window": window, "microbatch": microbatch, "max_rounds": max_rounds, "tol": self.tol}
        data: dict[str, Any] = {"cond": cond, "key": key, "step_noise": z, "prior": prior, "adapter": adapter}
        return sample_picard(self.model_fn, params, noise, self.solver, **data, **how, **self.options)


@dataclasses.dataclass(frozen=True)
class ScanSubject:
    """A scan; a row is one call of the step on the whole carry.

    traced: the step. held: (xs, arrays that the step closes over, a guess that is a trajectory or None), which are
    arguments of the programs that are timed and not constants in them.
    """

    traced: Traced
    held: Any
    draws: Sequence[Any]
    steps: int
    batch_axis: int | None
    tol: float
    options: Mapping[str, Any]
    name: str = "scan"
    batch: int = 1
    least: int = 1

    def network(self, rows: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        (xs, closed_over, _), init = self.held, self.draws[0]
        first = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (rows, *jnp.shape(leaf))), init)

        def calls(count: Array, closed_over: list[Array], xs: PyTree, first: PyTree) -> PyTree:
            def body(index: Array, now: PyTree) -> PyTree:
                at = (jnp.arange(rows) + index) % self.steps
                mine = jax.tree.map(lambda leaf: leaf[at], xs)
                new = jax.vmap(lambda carry, x: self.traced(closed_over, carry, x)[0])(now, mine)
                return jax.tree.map(lambda a, b: (a + MIX * (b - a)).astype(a.dtype), first, new)

            return jax.lax.fori_loop(0, count, body, first)

        return calls, (closed_over, xs, first)

    def sequential(self, held: Any, draw: Any) -> Outcome:
        return scan_sequential(self._step(held), draw, held[0], length=self.steps, batch_axis=self.batch_axis)

    def parallel(self, held: Any, draw: Any, window: int, microbatch: int | None, max_rounds: int | None) -> Outcome:
        how: dict[str, Any] = {"window": window, "microbatch": microbatch, "max_rounds": max_rounds, "tol": self.tol}
        options = dict(self.options) if held[2] is None else dict(self.options) | {"guess": held[2]}
        return scan(self._step(held), draw, held[0], length=self.steps, batch_axis=self.batch_axis, **how, **options)

    def _step(self, held: Any) -> Step:
        def step(carry: PyTree, x: PyTree) -> Any:
            new, y = self.traced(held[1], carry, x)
            return (new, y) if self.traced.has_output else new

        return step
