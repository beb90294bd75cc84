r"""The parallel sampler's loop: the only `while_loop` of the library.

One round evaluates the network on the W rows of every sample's window in one batched call, rebuilds the states with
one affine scan (linearization.py), accepts the leading states that are exact to the tolerance, and slides. State b + 1
is always exact when state b is, so every round accepts at least one state and T rounds always suffice.

Exactness is a certificate. lambda in [0, 1] is the share of a fine-tuned model in a row's evaluation; a state is
accepted only if every row from the front to it was evaluated with lambda = 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from pcm_jax.parallel import WindowAxis
from pcm_jax.results import SENTINEL, ResultCode, SampleOutput, Stats
from pcm_jax.sampling.linearization import History, Linearization, solve
from pcm_jax.sampling.residual import Norm
from pcm_jax.sampling.window import leading, slide, take_rows, window_rows
from pcm_jax.solvers import Solver
from pcm_jax.types import Array

Evaluate = Callable[[Array, Array, Array | None], Array]
"""(x `[W, B, ...]`, network time `[W, B]`, lambda `[W, B]` or None) -> prediction `[W, B, ...]`."""

Switch = Callable[["SwitchInput"], Array]
"""lambda `[W, B]` for the rows of a round."""


class SwitchInput(NamedTuple):
    """What a switch may look at: `round` scalar; `row`, `age` (rounds in the window), `residual` `[W, B]`."""

    round: Array
    row: Array
    age: Array
    residual: Array


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """Static half of a call."""

    window: int
    max_rounds: int
    linearization: Linearization
    norm: Norm
    switch: Switch | None = None
    return_trajectory: bool = False


class Inputs(NamedTuple):
    """Arrays that no round changes: noise `[B, ...]`, step noise `[T, B, ...]`, a guess `[T + 1, B, ...]`."""

    solver: Solver
    noise: Array
    step_noise: Array | None
    guess: Array | None
    tol: Array


class Rows(NamedTuple):
    """What a window row remembers of the last round: residual and age `[W, B]`."""

    residual: Array
    age: Array


class State(NamedTuple):
    """Loop carry. `front` `[B]` is the last exact state; `x` `[W + 1, B, ...]` holds the states from there on."""

    round: Array
    front: Array
    x: Array
    f_edge: Array | None
    history: History | None
    rows: Rows
    failed: Array
    reached: Array
    last: Array
    stats: Stats
    trajectory: Array | None
    done: Array


def run(evaluate: Evaluate, inputs: Inputs, config: LoopConfig, axis: WindowAxis) -> SampleOutput:
    """Rounds until every sample is done or `max_rounds` have passed."""

    def proceed(state: State) -> Array:
        return ~state.done & (state.round < config.max_rounds)

    def body(state: State) -> State:
        return _round(evaluate, inputs, config, axis, state)

    return _finalize(inputs, config, axis, lax.while_loop(proceed, body, _init(inputs, config)))


def _init(inputs: Inputs, config: LoopConfig) -> State:
    noise, window = inputs.noise, config.window
    batch = noise.shape[0]
    x = jnp.broadcast_to(noise, (window + 1, *noise.shape))
    if inputs.guess is not None:
        x = jnp.concatenate([noise[None], inputs.guess[1 : window + 1]])
    history = None
    if config.linearization.needs_history:
        history = History(x[:-1], x[:-1], jnp.zeros((window, batch), bool))
    trajectory = None
    if config.return_trajectory:
        trajectory = jnp.broadcast_to(noise, (len(inputs.solver) + 1, *noise.shape))
        if inputs.guess is not None:
            trajectory = jnp.concatenate([noise[None], inputs.guess[1:]])
    counts = jnp.zeros(batch, jnp.int32)
    stats = Stats(
        rounds=counts,
        evaluations=counts,
        padded_evaluations=jnp.int32(0),
        residuals=jnp.full((config.max_rounds, batch), SENTINEL, x.dtype),
        accepted=jnp.full((config.max_rounds, batch), SENTINEL, jnp.int32),
    )
    return State(
        round=jnp.int32(0),
        front=counts,
        x=x,
        f_edge=jnp.zeros_like(noise) if inputs.solver.multistep else None,
        history=history,
        rows=Rows(jnp.full((window, batch), jnp.inf, x.dtype), jnp.zeros((window, batch), jnp.int32)),
        failed=~jnp.all(jnp.isfinite(noise), axis=tuple(range(1, noise.ndim))),
        reached=jnp.zeros(batch, x.dtype),
        last=jnp.full(batch, jnp.inf, x.dtype),
        stats=stats,
        trajectory=trajectory,
        done=jnp.bool_(False),
    )


def _round(evaluate: Evaluate, inputs: Inputs, config: LoopConfig, axis: WindowAxis, state: State) -> State:
    solver, window, num_steps = inputs.solver, config.window, len(inputs.solver)
    active = (state.front < num_steps) & ~state.failed
    row = window_rows(state.front, window)
    inside = row < num_steps
    index = jnp.minimum(row, num_steps - 1)
    table = solver.rows(index)

    # One batched network call, and the steps F_i(x_i) of all rows. Past the end the step is the identity.
    share = None
    if config.switch is not None:
        share = config.switch(SwitchInput(state.round, row, state.rows.age, state.rows.residual))
    x = state.x[:-1]
    f = table.data(x, evaluate(table.network_input(x), table.time, share))
    f_prev = None if state.f_edge is None else jnp.concatenate([state.f_edge[None], f[:-1]])
    z = None if inputs.step_noise is None else take_rows(inputs.step_noise, index)
    step = jnp.where(_like(inside, x), table.step(x, f, f_prev, z), x)

    slope = config.linearization.slope(table, x, step, state.history)
    y = solve(state.x, step, slope)

    # Certificate: state b + 1 + w is exact if states up to b + w, from which it was computed, changed by at most tol.
    finite = jnp.all(jnp.isfinite(y), axis=tuple(range(2, y.ndim)))
    residual = jnp.where(finite, config.norm(y - state.x[1:], table.variance.astype(x.dtype)), jnp.inf)
    settled = jnp.concatenate([jnp.ones_like(inside[:1]), residual[:-1] <= inputs.tol])
    base = jnp.ones_like(inside) if share is None else share == 0
    certified = inside & settled & base & finite
    shift = jnp.where(active, leading(certified), 0)
    failed = state.failed | (active & base[0] & ~finite[0])
    front = state.front + shift

    last_good = leading(finite)
    inputs_used = (jnp.arange(window)[:, None] < shift[None] - 1) & active[None]
    reached = jnp.maximum(state.reached, jnp.max(jnp.where(inputs_used, residual, 0.0), axis=0))
    last = jnp.where(active, jnp.max(jnp.where(inside, residual, 0.0), axis=0), state.last)
    trajectory = state.trajectory
    if trajectory is not None:
        # Rows past the end, and rows of samples that are done, are sent out of range and dropped.
        target = jnp.where(inside & active[None] & finite, row + 1, num_steps + 1)
        trajectory = trajectory.at[target, jnp.arange(y.shape[1])[None]].set(y, mode="drop")
    f_edge = state.f_edge
    if f_edge is not None:
        edge = take_rows(jnp.concatenate([f_edge[None], f]), shift[None])[0]
        f_edge = jnp.where(_like(active, edge), edge, f_edge)

    stats = dataclasses.replace(
        state.stats,
        rounds=state.stats.rounds + active,
        evaluations=state.stats.evaluations + jnp.where(active, jnp.sum(inside, axis=0, dtype=jnp.int32), 0),
        residuals=state.stats.residuals.at[state.round].set(jnp.where(active, last, SENTINEL)),
        accepted=state.stats.accepted.at[state.round].set(jnp.where(active, front, SENTINEL)),
    )
    return State(
        round=state.round + 1,
        front=front,
        x=slide(jnp.concatenate([state.x[:1], y]), shift, last_good, front, inputs.guess),
        f_edge=f_edge,
        history=_remember(state, x, step, shift, config),
        rows=_age(state.rows, residual, shift),
        failed=failed,
        reached=reached,
        last=last,
        stats=stats,
        trajectory=trajectory,
        done=axis.all(jnp.all(failed | (front >= num_steps))),
    )


def _remember(state: State, x: Array, step: Array, shift: Array, config: LoopConfig) -> History | None:
    """This round's states and steps, moved to the rows of the next window."""
    if state.history is None:
        return None
    source = window_rows(shift, config.window)
    index = jnp.minimum(source, config.window - 1)
    finite = jnp.all(jnp.isfinite(step), axis=tuple(range(2, step.ndim)))
    valid = (source < config.window) & take_rows(finite, index)
    return History(take_rows(x, index), take_rows(step, index), valid)


def _age(rows: Rows, residual: Array, shift: Array) -> Rows:
    window = residual.shape[0]
    source = window_rows(shift, window)
    index = jnp.minimum(source, window - 1)
    stays = source < window
    return Rows(
        residual=jnp.where(stays, take_rows(residual, index), jnp.inf),
        age=jnp.where(stays, take_rows(rows.age, index) + 1, 0),
    )


def _finalize(inputs: Inputs, config: LoopConfig, axis: WindowAxis, state: State) -> SampleOutput:
    num_steps, batch = len(inputs.solver), inputs.noise.shape[0]
    converged = (state.front >= num_steps) & ~state.failed
    result = jnp.where(converged, ResultCode.CONVERGED, ResultCode.MAX_ROUNDS)
    result = jnp.where(state.failed, ResultCode.NONFINITE, result).astype(jnp.int32)
    # The best iterate: the last state, or where the window never came that far, the last one in it.
    sample = take_rows(state.x, jnp.minimum(num_steps - state.front, config.window)[None])[0]
    sample = jnp.where(_like(state.failed, sample), jnp.nan, sample)
    lanes = state.round * axis.padded(config.window) * batch
    padded = (lanes - jnp.sum(state.stats.evaluations)).astype(jnp.int32)
    return SampleOutput(
        sample=sample,
        result=result,
        residual=jnp.where(converged, state.reached, state.last),
        stats=dataclasses.replace(state.stats, padded_evaluations=padded),
        trajectory=state.trajectory,
    )


def _like(mask: Array, x: Array) -> Array:
    return mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
