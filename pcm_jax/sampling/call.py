"""The parallel sampler as the loop and its derivative see it: compiled rounds of a table, and one sequential step."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from pcm_jax.guidance import guidance_scale
from pcm_jax.parallel import Executor, WindowAxis
from pcm_jax.priors import GaussianPrior, start
from pcm_jax.recurrence import LoopConfig, Solved, Start, run
from pcm_jax.results import SampleOutput
from pcm_jax.sampling.network import call_rows, count_rows, idle_states
from pcm_jax.sampling.sequential import one_step
from pcm_jax.sampling.table import TableSteps
from pcm_jax.solvers import Solver
from pcm_jax.switching import Adapter
from pcm_jax.types import Array, Cond, ModelFn, Params

Theta = tuple[Params, Cond]
Rows = tuple[Solver, Array | None]


class Rest(NamedTuple):
    """What changes the rounds and not the fixed point."""

    adapter: Adapter | None
    guess: Array | None
    tol: Array
    prior: GaussianPrior | None


@dataclasses.dataclass(frozen=True)
class TableCall:
    """All that a compiled sampler is kept by; see `recurrence.gradient.Call`."""

    model_fn: ModelFn
    dtype: Any
    config: LoopConfig
    executor: Executor
    depth: int = 0
    microbatch: int | None = None

    def whole(self) -> TableCall:
        config = dataclasses.replace(self.config, return_trajectory=True, return_emitted=self.depth > 0)
        return dataclasses.replace(self, config=config)

    def shown(self, out: Solved) -> Solved:
        return out._replace(
            trajectory=out.trajectory if self.config.return_trajectory else None,
            emitted=out.emitted if self.config.return_emitted else None,
        )

    def run(self, theta: Theta, rows: Rows, first: Array, rest: Rest) -> Solved:
        return _compiled(self)(theta, rows, first, rest)

    def one_step(
        self, theta: Theta, row: Rows, x: Array, before: Array | None
    ) -> tuple[Array, Array | None, Array | None]:
        (params, cond), (table, z) = theta, row
        new, f = one_step(self.model_fn, self.dtype, params, cond, table, x, before, z, self.microbatch)
        return new, f, f if self.depth else None


# Entries keep their model_fn, and what it closes over, alive: few are kept.
@functools.lru_cache(maxsize=32)
def _compiled(call: TableCall) -> Callable[..., Solved]:
    def body(axis: WindowAxis, theta: Theta, rows: Rows, first: Array, rest: Rest) -> Solved:
        (params, cond), (solver, step_noise) = theta, rows

        def predict(x: Array, time: Array, share: Array | None) -> Array:
            def network(x: Array, time: Array, share: Array | None) -> Array:
                how = (rest.adapter, share, call.microbatch)
                return call_rows(call.model_fn, params, x, time, cond, call.dtype, *how)

            found: Array = axis.map_rows(network, x, time, share)
            return found

        guess, slope = rest.guess, None
        if rest.prior is not None:
            scale = guidance_scale(call.model_fn)
            guess, slope = start(rest.prior, solver, first, step_noise, cond, guidance=scale)
        problem = TableSteps(solver, call.config.window, predict, step_noise)
        held = (theta, rows, rest.adapter)
        solved = run(problem, Start(first, guess, rest.tol, slope), call.config, axis, held)
        return _with_idle(solved, call, axis, first.shape[0])

    return call.executor.compile(body)


def _with_idle(solved: Solved, call: TableCall, axis: WindowAxis, batch: int) -> Solved:
    """`solved`, counting what fills the last chunk of every device's calls."""
    states = axis.padded(call.config.window.size) // axis.size * batch
    idle = axis.size * idle_states(call.model_fn, states, call.microbatch)
    if idle == 0:
        return solved
    stats = solved.stats
    padded = stats.padded_evaluations + idle * jnp.max(stats.rounds)
    return solved._replace(stats=dataclasses.replace(stats, padded_evaluations=padded.astype(jnp.int32)))


def output(call: TableCall, solved: Solved) -> SampleOutput:
    """What the user gets; evaluations in network rows."""
    out = SampleOutput(
        sample=solved.last,
        result=solved.result,
        error_bound=solved.error_bound,
        stats=solved.stats,
        trajectory=solved.trajectory,
        iterates=solved.iterates,
    )
    return count_rows(call.model_fn, out)
