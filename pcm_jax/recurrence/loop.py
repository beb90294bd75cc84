r"""The parallel loop: the only `while_loop` of the library.

It solves a recurrence x_{i+1} = F_i(x_i) in rounds. One round evaluates F on the W rows of every sample's window in one
batched call, rebuilds the states with one affine scan (linearization.py), accepts the leading states that are exact to
the tolerance (certificate.py), and slides where the window does not hold all rows. State b + 1 is always exact when
state b is, so every round accepts at least one state and T rounds always suffice.

Exactness is a certificate. lambda in [0, 1] is the share of a fine-tuned model in a row's evaluation; a state is
accepted only if every row from the front to it was evaluated with lambda = 0.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from pcm_jax.parallel import WindowAxis, vary_like
from pcm_jax.recurrence.certificate import Evidence
from pcm_jax.recurrence.linearization import History, Sums, known, linearise, same_operator, summed
from pcm_jax.recurrence.problem import Evaluation, Recurrence
from pcm_jax.recurrence.state import LoopConfig, Past, Rows, Solved, Start, State, initial
from pcm_jax.recurrence.window import Place, where
from pcm_jax.results import SENTINEL, ResultCode, Stats
from pcm_jax.switching import SwitchInput
from pcm_jax.types import Array, PyTree


def run(problem: Recurrence, start: Start, config: LoopConfig, closed_over: PyTree = None) -> Solved:
    """Rounds until every sample is done or `max_rounds` have passed.

    config: `LoopConfig.on` the devices; where these hold their own rows, so does what `problem` holds of rows.
    closed_over: arrays that `problem` holds.
    """
    axis = config.window.axis

    def rounds(state: State, tuned: bool) -> State:
        """As long as the fine-tuned model has a share in some row, or as long as it has none."""

        def proceed(state: State) -> Array:
            return state.more if state.tuned is None else state.more & (state.tuned == tuned)

        return lax.while_loop(
            proceed, lambda state: _settled(_round(problem, start, config, state, tuned), axis), state
        )

    state = initial(problem, start, config)
    if state.rows is not None:
        state = _scheduled(state, state.rows, config)
    state = vary_like(state, (start, closed_over))
    state = state._replace(**{name: axis.local(getattr(state, name)) for name in ("x", "past", "emitted")})
    if state.rows is None:
        state = rounds(state, False)
    else:
        # Loops of their own, not a branch: what the network computes of a row's time alone moves out of them.
        state = lax.while_loop(lambda state: state.more, lambda state: rounds(rounds(state, True), False), state)
    return _finalize(start, config, state)


def _settled(state: State, axis: WindowAxis) -> State:
    """Where XLA partitions one program: as its devices hold the state between rounds."""
    kept = ("x", "edge", "past", "rows", "trajectory")
    return state._replace(**{name: axis.settled(getattr(state, name)) for name in kept})


def _works(place: Place, front: Array, num_steps: int) -> tuple[Array, Array]:
    """Rows that keep the state that follows them, those of accepted states and of samples that are done; the others."""
    held = (place.row < front[None]) | (front >= num_steps)[None]
    return held, ~held if place.inside is None else place.inside & ~held


def _scheduled(state: State, rows: Rows, config: LoopConfig) -> State:
    """With the switch's lambda for the coming round."""
    assert config.switch is not None
    place = config.window.at(state.start)
    held, works = _works(place, state.front, config.window.num_steps)
    row = jnp.broadcast_to(place.row, held.shape)
    share = config.switch(SwitchInput(state.round, row, rows.age, rows.residual))
    share = jnp.where(works, jnp.clip(share.astype(rows.residual.dtype), 0.0, 1.0), 0.0)
    return state._replace(rows=rows._replace(share=share), tuned=~config.window.axis.all(jnp.all(share == 0)))


def _round(problem: Recurrence, start: Start, config: LoopConfig, state: State, tuned: bool) -> State:
    axis, window, num_steps = config.window.axis, config.window, config.window.num_steps
    active, (spent, bound) = state.front < num_steps, state.error
    place = window.at(state.start)
    mine = place if not axis.held else Place(axis.own(place.row), axis.own(place.index), None)
    rows = problem.rows(mine)
    held, works = _works(place, state.front, num_steps)
    here = axis.filled(axis.own(held))
    share = state.rows.share if tuned and state.rows is not None else None

    # One batched call, F_i(x_i) of all rows that are held here. Past the end the step is the identity.
    old, follows = (jax.tree.map(lambda leaf, cut=cut: leaf[cut], state.x) for cut in (slice(-1), slice(1, None)))
    found = problem.evaluate(rows, old, mine, axis.own(share), state.edge)
    step = found.step if place.inside is None else where(place.inside, found.step, old)
    if window.whole or window.together:
        step = where(here, follows, step)
    moved, changed, mine_sums = _measured(state, step)
    variance = jnp.broadcast_to(jnp.asarray(rows.variance, spent.dtype), here.shape)
    sums, variance = axis.whole((mine_sums, variance))
    history = None if moved is None else History(moved, changed, _valid(sums))
    if state.rows is not None:
        history = same_operator(
            history, state.rows.before, jnp.zeros_like(state.rows.before) if share is None else share
        )
    y, steepest = linearise(
        config.linearization,
        rows,
        state.x,
        step,
        history=history and history._replace(valid=axis.own(history.valid), returned=axis.own(history.returned)),
        measured=mine_sums,
        first_slope=None if start.first_slope is None else axis.own(window.take(start.first_slope, place)),
        share=axis.own(share),
        recurrent=problem.recurrent,
        axis=axis,
    )

    finite = functools.reduce(jnp.logical_and, [each.broken == 0 for each in sums])
    sound = finite if share is None else finite & (share == 0)
    verdict = config.certificate.judge(
        Evidence(
            row=place.row,
            num_steps=num_steps,
            whole=window.whole,
            front=state.front,
            x=state.x,
            step=step,
            y=y,
            sums=sums,
            variance=variance,
            inside=place.inside,
            sound=held | sound,
            before=history,
            steepest=None if steepest is None else axis.whole(steepest),
            spent=spent,
            bound=bound,
            axis=axis,
        ),
        start.tol,
    )
    # The first row's step is taken from an accepted state: where the base model gives no number for it, nothing will.
    at_front = jnp.maximum(state.front - state.start, 0)[None]
    broken = active & ~axis.take(finite if share is None else finite | (share > 0), at_front)[0]
    front = jnp.where(active, state.start + verdict.accepted, state.front)
    front = jnp.where(broken, num_steps + 1, front)
    now = verdict.spent, jnp.where(front >= num_steps, verdict.spent, verdict.bound)
    error = jnp.where(active[None], _pair(*now), state.error)

    # A network may overflow on a guess and be well on the trajectory: numbers that are not finite stay as they were.
    y = jax.tree.map(lambda new, old: jnp.where(jnp.isfinite(new), new, old), y, follows)
    done = front >= num_steps
    begin = state.start if window.whole else window.start(front, ~done)
    shift = begin - state.start
    counted = jnp.minimum(state.start + window.size, num_steps) - state.front
    tally = state.tally + jnp.where(active[None], _pair(jnp.ones_like(counted), counted), 0)
    report = state.report
    if report is not None:
        seen = error[1], jnp.where(broken, state.front, front)
        report = tuple(a.at[state.round].set(jnp.where(active, b, SENTINEL)) for a, b in zip(report, seen, strict=True))
    trajectory = state.trajectory
    if trajectory is not None:
        trajectory = window.store(trajectory, y, place.row + 1, works)
    states = jax.tree.map(lambda leaf, new: jnp.concatenate([axis.before(new, leaf[:1]), new]), state.x, y)
    new = State(
        round=state.round + 1,
        front=front,
        start=begin,
        x=window.slid(states, shift, begin, start.guess),
        edge=_edge(state, found, shift, config),
        past=_remember(state, states, where(axis.own(finite), step, jnp.nan), shift, config),
        rows=state.rows,
        tuned=state.tuned,
        error=error,
        tally=tally,
        report=report,
        trajectory=trajectory,
        emitted=_emit(state, found, place, axis.own(works), config),
        preview=state.preview,
        iterates=state.iterates,
        more=~axis.all(jnp.all(done | (tally[0] >= config.max_rounds))),
    )
    if state.rows is not None:
        new = _scheduled(new, _seen(state.rows, verdict.residual, share, shift, config), config)
    if config.preview is not None:
        new = new._replace(preview=_preview(problem, rows, found, state, new, active, config))
    if state.iterates is None:
        return new
    shown = _shown(new, num_steps, axis)
    return new._replace(iterates=jax.tree.map(lambda all, one: all.at[state.round].set(one), state.iterates, shown))


def _measured(state: State, step: PyTree) -> tuple[PyTree, PyTree, list[Sums]]:
    """How far states and steps moved since the round before, and the sums of every leaf."""
    leaves, steps = jax.tree.leaves(state.x), jax.tree.leaves(step)
    if state.past is None:
        return None, None, [summed(x, f, None, None) for x, f in zip(leaves, steps, strict=True)]
    moved = state.past.moved
    changed = jax.tree.map(jnp.subtract, step, state.past.step)
    return moved, changed, list(map(summed, leaves, steps, jax.tree.leaves(moved), jax.tree.leaves(changed)))


def _valid(sums: list[Sums]) -> Array:
    """Rows whose round before is known: the step is NaN of those that were not in the window, or that had none."""
    return functools.reduce(jnp.logical_and, [jnp.isfinite(known(each.changed)) for each in sums])


def _pair(first: Array, second: Array) -> Array:
    """Both in one array `[2, B]`, selected and not concatenated: that can be done in place."""
    return jnp.where(jnp.arange(2)[:, None] == 0, first[None], second[None])


def _preview(
    problem: Recurrence,
    rows: Any,
    found: Evaluation,
    old: State,
    new: State,
    active: Array,
    config: LoopConfig,
) -> PyTree:
    """The row that this round's number asks for; row T is the last state."""
    assert config.preview is not None
    axis = config.window.axis
    row = jnp.asarray(config.preview)[jnp.minimum(old.round, len(config.preview) - 1)]
    x = jax.tree.map(lambda leaf: leaf[:-1], old.x)
    end = _last(new, problem.num_steps, axis)
    at = jnp.broadcast_to(jnp.clip(row - old.start, 0, config.window.size - 1), active.shape)
    seen = axis.pick(at, lambda at: problem.preview(rows, x, found.memory, at, end))
    return where(active, jax.tree.map(lambda a, b: jnp.where(row < problem.num_steps, a, b), seen, end), old.preview)


def _last(state: State, num_steps: int, axis: WindowAxis) -> PyTree:
    """Of the trajectory, or where the window `[W + 1, B, ...]` never came that far, the last one in it."""
    if axis.held:
        return axis.pick(jnp.int32(num_steps - 1), lambda row: jax.tree.map(lambda x: x[row + 1], state.x))

    def leaf(x: Array) -> Array:
        index = jnp.minimum(num_steps - state.start, x.shape[0] - 1)
        return axis.take(x, index[None])[0] if num_steps > x.shape[0] - 1 else x[-1]

    return jax.tree.map(leaf, state.x)


def _shown(state: State, num_steps: int, axis: WindowAxis) -> PyTree:
    """Exact once the front has reached the end; before that the preview, if one was asked for."""
    last = _last(state, num_steps, axis)
    return last if state.preview is None else where(state.front >= num_steps, last, state.preview)


def _edge(state: State, found: Evaluation, shift: Array, config: LoopConfig) -> PyTree:
    """The memories before the next window; with all rows in it there are none."""
    if state.edge is None or config.window.whole:
        return state.edge
    assert found.memory is not None
    depth = state.edge.shape[0]
    index = shift[None] + jnp.arange(depth, dtype=shift.dtype)[:, None]
    return config.window.axis.take(jnp.concatenate([state.edge, found.memory]), index)


def _emit(state: State, found: Evaluation, place: Place, works: Array, config: LoopConfig) -> PyTree:
    """What the last evaluation of every row emitted."""
    window = config.window
    if not config.return_emitted:
        return state.emitted
    if window.together:
        if window.whole:
            return found.emitted
        row = place.row[:, 0]
        return jax.tree.map(lambda all, some: all.at[row].set(some, mode="drop"), state.emitted, found.emitted)
    if window.whole:
        return where(works, found.emitted, state.emitted)
    return window.store(state.emitted, found.emitted, place.row, works)


def _remember(state: State, states: PyTree, step: PyTree, shift: Array, config: LoopConfig) -> Past | None:
    """This round's steps, and how far it moved the states that they were taken from, in the next window's rows."""
    if state.past is None:
        return None
    window = config.window
    moved = jax.tree.map(lambda new, old: (new - old)[:-1], states, state.x)
    return Past(window.carried(moved, shift, 0.0), window.carried(step, shift, jnp.nan))


def _seen(rows: Rows, residual: Array, share: Array | None, shift: Array, config: LoopConfig) -> Rows:
    """This round's numbers, moved to the rows of the next window."""
    window = config.window
    return Rows(
        residual=window.carried(residual, shift, jnp.inf),
        age=window.carried(rows.age + 1, shift, 0),
        before=jnp.zeros_like(rows.before) if share is None else window.carried(share, shift, 0.0),
        share=rows.share,
    )


def _finalize(start: Start, config: LoopConfig, state: State) -> Solved:
    axis = config.window.axis
    num_steps, batch = config.window.num_steps, start.batch
    (spent, bound), (rounds, evaluations), failed = state.error, state.tally, state.front > num_steps
    # A sliding window may accept an error that the rows behind it make larger than the tolerance.
    converged = (state.front == num_steps) & (spent <= start.tol)
    result = jnp.where(converged, ResultCode.CONVERGED, ResultCode.MAX_ROUNDS)
    result = jnp.where(failed, ResultCode.NONFINITE, result).astype(jnp.int32)
    # A preview is another row's data prediction: nothing is known of it.
    bound = bound if state.preview is None else jnp.where(state.front >= num_steps, bound, jnp.inf)
    last = _shown(state, num_steps, axis)
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
        trajectory = state.x if config.window.whole else state.trajectory
    if axis.held and config.return_trajectory:
        after = axis.whole(jax.tree.map(lambda x: x[1:], state.x))
        trajectory = jax.tree.map(lambda first, x: jnp.concatenate([first[None], x]), start.first, after)
    return Solved(
        last=last,
        result=result,
        error_bound=jnp.where(failed, jnp.inf, bound),
        stats=Stats(rounds, evaluations, padded, *(state.report or (None, None))),
        trajectory=trajectory,
        emitted=axis.whole(state.emitted),
        iterates=iterates,
    )
