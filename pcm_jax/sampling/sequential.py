"""The sequential sampler: the oracle that every parallel sample is compared with, and the baseline."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from pcm_jax.parallel import vary_like
from pcm_jax.results import ResultCode, SampleOutput, Stats
from pcm_jax.sampling.network import call_rows
from pcm_jax.solvers import Solver
from pcm_jax.types import Array, Cond, ModelFn, Params


def one_step(
    model_fn: ModelFn,
    dtype: jnp.dtype,
    params: Params,
    cond: Cond,
    row: Solver,
    x: Array,
    before: Array | None,
    z: Array | None,
    microbatch: int | None = None,
) -> tuple[Array, Array]:
    """(x', f) of one row of the table, x `[B, ...]`; before: f of the rows before, `[k, B, ...]`."""
    row = jax.tree.map(lambda column: jnp.broadcast_to(column, x.shape[:1]), row)
    prediction = call_rows(
        model_fn, params, row.network_input(x)[None], row.time[None], cond, dtype, microbatch=microbatch
    )[0]
    f = row.data(x, prediction)
    return row.step(x, f, before=before, z=z, prediction=prediction), f


def run(
    model_fn: ModelFn,
    params: Params,
    noise: Array,
    solver: Solver,
    cond: Cond,
    step_noise: Array | None,
    dtype: jnp.dtype,
    return_trajectory: bool,
) -> SampleOutput:
    """All rows of the table in order, `lax.scan`."""

    def body(carry: tuple[Array, Array | None], row: tuple[Solver, Array | None]) -> Any:
        x, before = carry
        table, z = row
        new, f = one_step(model_fn, dtype, params, cond, table, x, before, z)
        before = None if before is None else jnp.concatenate([before[1:], f[None]])
        return (new, before), new if return_trajectory else None

    first = (noise, jnp.zeros((solver.depth, *noise.shape), noise.dtype) if solver.multistep else None)
    first = vary_like(first, (params, noise, cond, step_noise, solver))
    (sample, _), states = lax.scan(body, first, (solver, step_noise))
    batch, steps = noise.shape[0], len(solver)
    finite = jnp.all(jnp.isfinite(sample), axis=tuple(range(1, sample.ndim)))
    counts = jnp.full(batch, steps, jnp.int32)
    return SampleOutput(
        sample=sample,
        result=jnp.where(finite, ResultCode.CONVERGED, ResultCode.NONFINITE).astype(jnp.int32),
        error_bound=jnp.zeros(batch, sample.dtype),
        stats=Stats(rounds=counts, evaluations=counts, padded_evaluations=jnp.int32(0)),
        trajectory=jnp.concatenate([noise[None], states]) if return_trajectory else None,
    )
