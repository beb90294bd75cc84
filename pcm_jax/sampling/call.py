"""The parallel sampler as the loop and its derivative see it: compiled rounds of a table, and one sequential step."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pcm_jax.guidance import guidance_scale
from pcm_jax.parallel import WHOLE, Along, Executor, Layout, WindowAxis
from pcm_jax.priors import GaussianPrior, start
from pcm_jax.recurrence import LoopConfig, Solved, Start, run
from pcm_jax.results import SampleOutput, Stats
from pcm_jax.sampling.network import call_rows, count_rows, idle_states
from pcm_jax.sampling.sequential import one_step
from pcm_jax.sampling.table import TableSteps
from pcm_jax.solvers import Solver
from pcm_jax.switching import Adapter
from pcm_jax.types import Array, Cond, ModelFn, Params, is_shared

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
    microbatch: int | None = None

    @property
    def depth(self) -> int:
        return self.config.depth

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
        (params, cond), (solver, step_noise), config = theta, rows, call.config.on(axis)
        axis = config.window.axis

        def predict(x: Array, time: Array, share: Array | None) -> Array:
            def network(x: Array, time: Array, share: Array | None) -> Array:
                held, adapter = axis.afresh((params, rest.adapter), x)
                how = (adapter, share, call.microbatch, axis.blocks)
                return call_rows(call.model_fn, held, x, time, cond, call.dtype, *how)

            found: Array = axis.map_rows(network, x, time, share)
            return found

        guess, slope = rest.guess, None
        if rest.prior is not None:
            scale = guidance_scale(call.model_fn)
            every = axis.joined(step_noise, len(solver)) if axis.given else step_noise
            guess, slope = start(rest.prior, solver, first, every, cond, guidance=scale)
        table = axis.part(solver) if config.window.whole else solver
        problem = TableSteps(table, config.window, predict, axis.inputs(step_noise))
        solved = run(problem, Start(first, guess, rest.tol, slope), config, (theta, rows, rest.adapter))
        return _with_idle(solved, call, axis, first.shape[0])

    return call.executor.compile(body, Layout(_inputs, _OUTPUTS, held=call.config.held))


_SAMPLES, _SAMPLES_OF_ROWS = Along(batch=0), Along(batch=1)


def _inputs(theta: Theta, rows: Rows, first: Array, rest: Rest) -> tuple[Any, ...]:
    """Where the samples are in what a body takes."""
    conds = jax.tree.map(lambda part: WHOLE if is_shared(part) else _SAMPLES, theta[1], is_leaf=is_shared)
    prior: Any = WHOLE
    if rest.prior is not None and rest.prior.kind == "sample":
        own = {"mean": _SAMPLES, "variances": _SAMPLES, "remainder": _SAMPLES}
        prior = dataclasses.replace(jax.tree.map(lambda leaf: WHOLE, rest.prior), **own)
    others: Any = (WHOLE, _SAMPLES_OF_ROWS, WHOLE, prior)
    return (WHOLE, conds), (WHOLE, Along(batch=1, rows=True)), _SAMPLES, Rest(*others)


_COUNTS: Any = (_SAMPLES, _SAMPLES, WHOLE, _SAMPLES_OF_ROWS, _SAMPLES_OF_ROWS)
_FIELDS: Any = (_SAMPLES, _SAMPLES, _SAMPLES, Stats(*_COUNTS), *(_SAMPLES_OF_ROWS,) * 3)
_OUTPUTS = Solved(*_FIELDS)
"""last, result, error_bound, stats, trajectory, emitted, iterates."""


def _with_idle(solved: Solved, call: TableCall, axis: WindowAxis, batch: int) -> Solved:
    """`solved`, counting what fills the last chunk of every device's calls."""
    states = axis.padded(call.config.window.size) // axis.size * batch
    idle = axis.size * idle_states(call.model_fn, states, call.microbatch)
    if idle == 0:
        return solved
    stats = solved.stats
    padded = stats.padded_evaluations + axis.total(idle * jnp.max(stats.rounds))
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
