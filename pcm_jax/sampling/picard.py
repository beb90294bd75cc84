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

import jax.numpy as jnp
from jax import lax

from pcm_jax.parallel import WindowAxis, vary_like
from pcm_jax.results import SENTINEL, ResultCode, SampleOutput
from pcm_jax.sampling.certificate import Evidence
from pcm_jax.sampling.linearization import History
from pcm_jax.sampling.preview import data_prediction, last_state
from pcm_jax.sampling.state import Inputs, LoopConfig, Rows, State, initial
from pcm_jax.sampling.sweep import same_operator, sweep
from pcm_jax.sampling.window import leading, slide, take_rows, window_rows
from pcm_jax.switching import SwitchInput
from pcm_jax.types import Array, ArrayLike, PyTree

Evaluate = Callable[[Array, ArrayLike, Array | None], Array]
"""(x `[W, B, ...]`, network time `[W, B]`, lambda `[W, B]` or None) -> prediction `[W, B, ...]`."""


def run(
    evaluate: Evaluate, inputs: Inputs, config: LoopConfig, axis: WindowAxis, closed_over: PyTree = None
) -> SampleOutput:
    """Rounds until every sample is done or `max_rounds` have passed; `closed_over`: arrays that `evaluate` holds."""

    def proceed(state: State) -> Array:
        return ~state.done & (state.round < config.max_rounds)

    def body(state: State) -> State:
        return _round(evaluate, inputs, config, axis, state)

    start = vary_like(initial(inputs, config), (inputs, closed_over))
    return _finalize(inputs, config, axis, lax.while_loop(proceed, body, start))


def _round(evaluate: Evaluate, inputs: Inputs, config: LoopConfig, axis: WindowAxis, state: State) -> State:
    solver, window, num_steps = inputs.solver, config.window, len(inputs.solver)
    active = (state.front < num_steps) & ~state.failed
    row = window_rows(state.front, window)
    inside = row < num_steps
    index = jnp.minimum(row, num_steps - 1)
    table = solver.rows(index)

    share, history = None, state.history
    if config.switch is not None:
        see = SwitchInput(state.round, row, state.rows.age, state.rows.residual)
        share = jnp.clip(config.switch(see).astype(state.x.dtype), 0.0, 1.0)
        share = jnp.where(inside & active[None], share, 0.0)
        history = same_operator(history, state.rows.share, share)

    # One batched network call, and the steps F_i(x_i) of all rows. Past the end the step is the identity.
    prediction = evaluate(table.network_input(state.x[:-1]), table.time, share)
    z, first_slope = (
        None if each is None else take_rows(each, index) for each in (inputs.step_noise, inputs.first_slope)
    )
    f, step, y = sweep(
        table,
        config.linearization,
        state.x,
        prediction,
        f_edge=state.f_edge,
        step_noise=z,
        inside=inside,
        share=share,
        history=history,
        first_slope=first_slope,
    )

    finite = jnp.all(jnp.isfinite(y), axis=tuple(range(2, y.ndim)))
    base = jnp.ones_like(inside) if share is None else share == 0
    verdict = config.certificate.judge(
        Evidence(
            row=row,
            num_steps=num_steps,
            x=state.x,
            step=step,
            y=y,
            variance=jnp.asarray(table.variance, y.dtype),
            inside=inside,
            sound=base & finite,
            before=history,
            spent=state.spent,
            bound=state.bound,
        ),
        inputs.tol,
    )
    shift = jnp.where(active, verdict.accepted, 0)
    failed = state.failed | (active & base[0] & ~finite[0])
    front = state.front + shift

    last_good = leading(finite)
    spent = jnp.where(active, verdict.spent, state.spent)
    bound = jnp.where(active, jnp.where(front >= num_steps, spent, verdict.bound), state.bound)
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
        bounds=state.stats.bounds.at[state.round].set(jnp.where(active, bound, SENTINEL)),
        accepted=state.stats.accepted.at[state.round].set(jnp.where(active, front, SENTINEL)),
    )
    x = slide(jnp.concatenate([state.x[:1], y]), shift, last_good, front, inputs.guess)
    preview = state.preview
    if preview is not None and config.preview is not None:
        row = jnp.asarray(config.preview)[jnp.minimum(state.round, len(config.preview) - 1)]
        end = last_state(x, front, num_steps)
        seen = data_prediction(table, state.x, f, state.front, row, end)
        preview = jnp.where(_like(active, seen), jnp.where(row < num_steps, seen, end), preview)
    new = State(
        round=state.round + 1,
        front=front,
        x=x,
        f_edge=f_edge,
        history=_remember(state, step, shift, config),
        rows=_age(verdict.residual, state.rows.age, share, shift),
        failed=failed,
        spent=spent,
        bound=bound,
        stats=stats,
        trajectory=trajectory,
        preview=preview,
        iterates=state.iterates,
        done=axis.all(jnp.all(failed | (front >= num_steps))),
    )
    if state.iterates is None:
        return new
    return new._replace(iterates=state.iterates.at[state.round].set(_shown(new, num_steps)))


def _shown(state: State, num_steps: int) -> Array:
    """Exact once the front has reached the end; before that the preview, if one was asked for."""
    last = last_state(state.x, state.front, num_steps)
    done = _like(state.front >= num_steps, last)
    return last if state.preview is None else jnp.where(done, last, state.preview)


def _remember(state: State, step: Array, shift: Array, config: LoopConfig) -> History | None:
    """This round's states and steps, moved to the rows of the next window."""
    if state.history is None:
        return None
    source = window_rows(shift, config.window)
    index = jnp.minimum(source, config.window - 1)
    finite = jnp.all(jnp.isfinite(step), axis=tuple(range(2, step.ndim)))
    valid = (source < config.window) & take_rows(finite, index)
    return History(take_rows(state.x, index), take_rows(step, index), valid)


def _age(residual: Array, age: Array, share: Array | None, shift: Array) -> Rows:
    """This round's numbers, moved to the rows of the next window."""
    window = residual.shape[0]
    source = window_rows(shift, window)
    index = jnp.minimum(source, window - 1)
    stays = source < window
    return Rows(
        residual=jnp.where(stays, take_rows(residual, index), jnp.inf),
        age=jnp.where(stays, take_rows(age, index) + 1, 0),
        share=None if share is None else jnp.where(stays, take_rows(share, index), 0.0),
    )


def _finalize(inputs: Inputs, config: LoopConfig, axis: WindowAxis, state: State) -> SampleOutput:
    num_steps, batch = len(inputs.solver), inputs.noise.shape[0]
    # A sliding window may accept an error that the rows behind it make larger than the tolerance.
    converged = (state.front >= num_steps) & (state.spent <= inputs.tol) & ~state.failed
    result = jnp.where(converged, ResultCode.CONVERGED, ResultCode.MAX_ROUNDS)
    result = jnp.where(state.failed, ResultCode.NONFINITE, result).astype(jnp.int32)
    # A preview is another row's data prediction: nothing is known of it.
    bound = state.bound if state.preview is None else jnp.where(state.front >= num_steps, state.bound, jnp.inf)
    sample = _shown(state, num_steps)
    sample = jnp.where(_like(state.failed, sample), jnp.nan, sample)
    iterates = state.iterates
    if iterates is not None:
        ran = jnp.arange(config.max_rounds) < state.round
        iterates = jnp.where(_like(ran, iterates), iterates, sample[None])
    lanes = state.round * axis.padded(config.window) * batch
    padded = (lanes - jnp.sum(state.stats.evaluations)).astype(jnp.int32)
    return SampleOutput(
        sample=sample,
        result=result,
        error_bound=jnp.where(state.failed, jnp.inf, bound),
        stats=dataclasses.replace(state.stats, padded_evaluations=padded),
        trajectory=state.trajectory,
        iterates=iterates,
    )


def _like(mask: Array, x: Array) -> Array:
    return mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
