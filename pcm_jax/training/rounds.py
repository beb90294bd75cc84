"""Picard rounds over a whole trajectory, for the consistency trainer and the calibration: no window, no stop."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from pcm_jax.guidance import guidance_scale
from pcm_jax.priors import GaussianPrior, start
from pcm_jax.recurrence import History, Linearization, linearise, same_operator
from pcm_jax.sampling.network import call_rows
from pcm_jax.sampling.table import steps
from pcm_jax.solvers import Solver
from pcm_jax.switching import Adapter
from pcm_jax.types import Array, Cond, ModelFn, Params


class Base(NamedTuple):
    """What stays as it is while a model is fine-tuned: the base model's parameters, its solver, the guesses' prior."""

    params: Params
    solver: Solver
    prior: GaussianPrior | None = None


class Trajectory(NamedTuple):
    """Between two rounds: states `[T + 1, B, ...]`, how far the last round moved them, its steps and its lambda `[T]`.

    moved, step: `[T, B, ...]`; seen: bool, whether there was a last round. first_slope: `[T, B]` where there is no
    history, None without a prior.
    """

    x: Array
    moved: Array
    step: Array
    seen: Array
    share: Array
    first_slope: Array | None = None


def begin(model_fn: ModelFn, base: Base, noise: Array, cond: Cond, step_noise: Array | None) -> Trajectory:
    """What `sample_picard` starts from: the prior's guess, or every state a copy of the noise `[B, ...]`."""
    num_steps, first_slope = len(base.solver), None
    x = jnp.broadcast_to(noise, (num_steps + 1, *noise.shape))
    if base.prior is not None:
        scale = guidance_scale(model_fn)
        x, first_slope = start(base.prior, base.solver, noise, step_noise, cond, guidance=scale)
    nothing = jnp.zeros_like(x[:-1])
    return Trajectory(x, nothing, nothing, jnp.bool_(False), jnp.zeros(num_steps, x.dtype), first_slope)


def columns(solver: Solver, batch: int) -> Solver:
    """The whole table with columns `[T, B]`."""
    return jax.tree.map(lambda column: jnp.broadcast_to(jnp.asarray(column)[:, None], (len(solver), batch)), solver)


def edge(solver: Solver, x: Array) -> Array | None:
    """What the first rows read of rows before them, for states x `[.., B, ...]`: nothing, zeros."""
    return jnp.zeros((solver.depth, *x.shape[1:]), x.dtype) if solver.multistep else None


def advance(
    model_fn: ModelFn,
    base: Base,
    adapter: Adapter | None,
    at: Trajectory,
    cond: Cond,
    step_noise: Array | None,
    share: Array,
    linearization: Linearization,
) -> Trajectory:
    """One round with lambda = `share` `[T]`, on rows that the batch shares."""
    return evaluate_and_advance(model_fn, base, adapter, at, cond, step_noise, share, linearization)[0]


def evaluate_and_advance(
    model_fn: ModelFn,
    base: Base,
    adapter: Adapter | None,
    at: Trajectory,
    cond: Cond,
    step_noise: Array | None,
    share: Array,
    linearization: Linearization,
) -> tuple[Trajectory, Array]:
    """`advance`, and the data predictions `[T, B, ...]` that it was made from, inside the solver's clip."""
    batch, dtype = at.x.shape[1], at.x.dtype
    table = columns(base.solver, batch)
    rows = jnp.broadcast_to(share[:, None], (len(base.solver), batch))
    prediction = call_rows(
        model_fn, base.params, table.network_input(at.x[:-1]), table.time, cond, dtype, adapter, rows
    )
    memory, step = steps(table, at.x[:-1], prediction, edge=edge(base.solver, at.x), step_noise=step_noise, share=rows)
    # Not NaN where nothing was seen, as in the loop: a gradient is taken through this.
    changed = jnp.where(at.seen, step - at.step, 0.0)
    history = History(at.moved, changed, jnp.broadcast_to(at.seen, rows.shape))
    y, _ = linearise(
        linearization,
        table,
        at.x[:-1],
        at.x[1:],
        step,
        history=same_operator(history, jnp.broadcast_to(at.share[:, None], rows.shape), rows),
        first_slope=at.first_slope,
        share=rows,
    )
    new = jnp.concatenate([at.x[:1], y])
    data = table.clipped(table.data_prediction(at.x[:-1], memory[base.solver.depth :]))
    return Trajectory(new, (new - at.x)[:-1], step, jnp.bool_(True), share, at.first_slope), data


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def error_per_round(
    model_fn: ModelFn,
    linearization: Linearization,
    rounds: int,
    base: Base,
    adapter: Adapter | None,
    batch: dict[str, Any],
    table: Array,
) -> Array:
    """RMS error of the last state after rounds 1 .. `rounds`, the first ones with lambda = `table` `[rounds, T]`."""
    exact = jnp.moveaxis(batch["exact"], 0, 1)
    z = None if batch["step_noise"] is None else jnp.moveaxis(batch["step_noise"], 0, 1)
    shares = jnp.zeros((rounds, len(base.solver))).at[: table.shape[0]].set(table[:rounds])

    def body(at: Trajectory, share: Array) -> tuple[Trajectory, Array]:
        new = advance(model_fn, base, adapter, at, batch["cond"], z, share, linearization)
        return new, jnp.sqrt(jnp.mean((new.x[-1] - exact[-1]) ** 2))

    return lax.scan(body, begin(model_fn, base, exact[0], batch["cond"], z), shares)[1]
