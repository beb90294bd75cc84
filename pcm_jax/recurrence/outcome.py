"""What a solve shows of its states: after every round, where that was asked for, and in the end."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from pcm_jax.recurrence.problem import Evaluation, Recurrence
from pcm_jax.recurrence.state import LoopConfig, Solved, Start, State
from pcm_jax.recurrence.window import Place, Window, after, where
from pcm_jax.results import ResultCode, Stats
from pcm_jax.types import Array, PyTree


def previewed(
    problem: Recurrence,
    rows: Any,
    x: PyTree,
    found: Evaluation,
    old: State,
    new: State,
    active: Array,
    config: LoopConfig,
) -> PyTree:
    """The row that this round's number asks for, of states x `[W, B, ...]`; row T is the last state."""
    assert config.preview is not None
    axis = config.window.axis.turned(old.start)
    row = jnp.asarray(config.preview)[jnp.minimum(old.round, len(config.preview) - 1)]
    end = _last(new, config.window)
    at = jnp.broadcast_to(jnp.clip(row - old.start, 0, config.window.size - 1), active.shape)
    seen = axis.pick(at, lambda at: problem.preview(rows, x, found.memory, at, end))
    return where(active, jax.tree.map(lambda a, b: jnp.where(row < problem.num_steps, a, b), seen, end), old.preview)


def _last(state: State, window: Window) -> PyTree:
    """Of the trajectory, or where the window `[W + 1, B, ...]` never came that far, the last one in it."""
    axis = window.axis.turned(state.start)
    index = jnp.minimum(window.num_steps - state.start, window.size)

    def there(at: Array, x: Array, seam: Array | None = None) -> Array:
        found = axis.take(x[1:], at[None])[0]
        return found if seam is None else where(index > 0, found, seam[0])

    if axis.held:
        trees = (state.x,) if state.seam is None else (state.x, state.seam)
        return axis.pick(jnp.maximum(index - 1, 0), lambda at: jax.tree.map(functools.partial(there, at), *trees))
    if window.whole:
        return jax.tree.map(lambda x: x[-1], state.x)
    return jax.tree.map(lambda x: axis.take(x, index[None])[0], state.x)


def shown(state: State, window: Window) -> PyTree:
    """Exact once the front has reached the end; before that the preview, if one was asked for."""
    last = _last(state, window)
    return last if state.preview is None else where(state.front >= window.num_steps, last, state.preview)


def emit(state: State, found: Evaluation, place: Place, works: Array, config: LoopConfig) -> PyTree:
    """What the last evaluation of every row emitted."""
    window = config.window
    if not config.return_emitted:
        return state.emitted
    if window.together:
        if window.whole:
            return found.emitted
        row = jnp.where(place.axis.filled(place.row < 0), window.num_steps, place.axis.lies(place.row))[:, 0]
        return jax.tree.map(lambda all, some: all.at[row].set(some, mode="drop"), state.emitted, found.emitted)
    if window.whole:
        return where(works, found.emitted, state.emitted)
    return window.store(state.emitted, found.emitted, place, works)


def finalize(start: Start, config: LoopConfig, state: State) -> Solved:
    """What the loop returns."""
    axis = config.window.axis
    num_steps, batch = config.window.num_steps, start.batch
    (spent, bound), (rounds, evaluations), failed = state.error, state.tally, state.front > num_steps
    # A sliding window may accept an error that the rows behind it make larger than the tolerance.
    converged = (state.front == num_steps) & (spent <= start.tol)
    result = jnp.where(converged, ResultCode.CONVERGED, ResultCode.MAX_ROUNDS)
    result = jnp.where(failed, ResultCode.NONFINITE, result).astype(jnp.int32)
    # A preview is another row's data prediction: nothing is known of it.
    bound = bound if state.preview is None else jnp.where(state.front >= num_steps, bound, jnp.inf)
    last = shown(state, config.window)
    last = where(~failed, last, jnp.nan)
    iterates = state.iterates
    if iterates is not None:
        ran = jnp.arange(config.max_rounds) < state.round
        iterates = where(
            ran, iterates, jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(ran), *leaf.shape)), last)
        )
    lanes = state.round * axis.padded(config.window.size) * batch
    padded = axis.total((lanes - jnp.sum(evaluations)).astype(jnp.int32))
    trajectory = None
    if config.return_trajectory:
        following = axis.joined(after(state.x) if config.window.whole else state.trajectory, num_steps)
        trajectory = jax.tree.map(lambda first, x: jnp.concatenate([first[None], x]), start.first, following)
    return Solved(
        last=last,
        result=result,
        error_bound=jnp.where(failed, jnp.inf, bound),
        stats=Stats(rounds, evaluations, padded, *(state.report or (None, None))),
        trajectory=trajectory,
        emitted=axis.joined(state.emitted, num_steps),
        iterates=iterates,
    )
