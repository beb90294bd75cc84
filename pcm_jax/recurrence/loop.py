r"""The parallel loop: the only `while_loop` of the library.

It solves a recurrence x_{i+1} = F_i(x_i) in rounds. One round evaluates F on the W rows of every sample's window in one
batched call, rebuilds the states with one affine scan (update.py), accepts the leading states that are exact to
the tolerance (certificate.py), and slides where the window does not hold all rows. State b + 1 is always exact when
state b is, so every round accepts at least one state and T rounds always suffice.

Exactness is a certificate. lambda in [0, 1] is the share of a fine-tuned model in a row's evaluation; a state is
accepted only if every row from the front to it was evaluated with lambda = 0.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

from pcm_jax.parallel import WindowAxis, vary_like
from pcm_jax.parallel.ring import Ring
from pcm_jax.recurrence.certificate import Evidence
from pcm_jax.recurrence.linearization import History, Sums, known
from pcm_jax.recurrence.outcome import emit, finalize, previewed, shown
from pcm_jax.recurrence.problem import Recurrence
from pcm_jax.recurrence.state import LoopConfig, Past, Rows, Solved, Start, State, initial
from pcm_jax.recurrence.update import linearise, same_operator, summed
from pcm_jax.recurrence.window import Place, after, where
from pcm_jax.results import SENTINEL
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
    own = ("x", "seam", "edge", "past", "trajectory", "emitted")
    state = state._replace(**{name: axis.local(getattr(state, name)) for name in own})
    if isinstance(axis, Ring):
        start = start._replace(guess=axis.part(start.guess, beside=1))
    if state.rows is None:
        state = rounds(state, False)
    else:
        # Loops of their own, not a branch: what the network computes of a row's time alone moves out of them.
        state = lax.while_loop(lambda state: state.more, lambda state: rounds(rounds(state, True), False), state)
    return finalize(start, config, state)


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
    window, num_steps = config.window, config.window.num_steps
    active, (spent, bound) = state.front < num_steps, state.error
    place = window.at(state.start)
    axis, mine = place.axis, place.own()
    rows = problem.rows(mine)
    held, works = _works(place, state.front, num_steps)
    idle = axis.filled(axis.own(~works))
    share = state.rows.share if tuned and state.rows is not None else None

    # One batched call, F_i(x_i) of all rows that are held here. Accepted states and those past the end stay.
    old, follows = axis.settled((_before(state.x, state.seam, axis), after(state.x)))
    found = problem.evaluate(rows, old, mine, axis.own(share), state.edge)
    step = where(idle, follows, found.step)
    moved, changed, mine_sums = _measured(state, old, follows, step)
    variance = jnp.broadcast_to(jnp.asarray(rows.variance, spent.dtype), idle.shape)
    sums, variance = axis.whole((mine_sums, variance))
    history = None if moved is None else History(moved, changed, _valid(sums))
    if state.rows is not None:
        history = same_operator(
            history, state.rows.before, jnp.zeros_like(state.rows.before) if share is None else share
        )
    y, steepest = linearise(
        config.linearization,
        rows,
        old,
        follows,
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
            x=old,
            follows=follows,
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
        trajectory = window.store(trajectory, y, mine, ~idle)
    seam, edge = state.seam, state.edge
    if edge is not None and found.memory is not None and not window.whole:
        edge = axis.edge(edge, found.memory, shift)
    states = jax.tree.map(lambda new, edge: axis.behind(new, edge[:1]), y, state.x if seam is None else seam)
    if seam is not None:
        seam = jax.tree.map(lambda edge, new: axis.edge(edge, new, shift), seam, states)
    past = None
    if state.past is not None:
        # How far this round moved the states that its steps were taken from, in the next window's rows.
        moved = jax.tree.map(jnp.subtract, _before(states, state.seam, axis), old)
        step = where(axis.own(finite), step, jnp.nan)
        past = Past(window.carried(moved, shift, 0.0, place), window.carried(step, shift, jnp.nan, place))
    new = State(
        round=state.round + 1,
        front=front,
        start=begin,
        x=window.slid(states, shift, begin, start.guess, place),
        seam=seam,
        edge=edge,
        past=past,
        rows=state.rows,
        tuned=state.tuned,
        error=error,
        tally=tally,
        report=report,
        trajectory=trajectory,
        emitted=emit(state, found, mine, ~idle, config),
        preview=state.preview,
        iterates=state.iterates,
        more=~axis.all(jnp.all(done | (tally[0] >= config.max_rounds))),
    )
    if state.rows is not None:
        new = _scheduled(new, _seen(state.rows, verdict.residual, share, shift, config), config)
    if config.preview is not None:
        new = new._replace(preview=previewed(problem, rows, old, found, state, new, active, config))
    if state.iterates is None:
        return new
    now = shown(new, window)
    return new._replace(iterates=jax.tree.map(lambda all, one: all.at[state.round].set(one), state.iterates, now))


def _before(states: PyTree, seam: PyTree, axis: WindowAxis) -> PyTree:
    """The states that rows start from, of those `[W + 1, B, ...]` that they and the row before them hand on."""
    if seam is None:
        return jax.tree.map(lambda leaf: leaf[:-1], states)
    return jax.tree.map(lambda leaf, edge: axis.earlier(leaf, edge)[0], states, seam)


def _measured(state: State, x: PyTree, follows: PyTree, step: PyTree) -> tuple[PyTree, PyTree, list[Sums]]:
    """How far states and steps moved since the round before, and the sums of every leaf."""
    leaves, nexts, steps = (jax.tree.leaves(each) for each in (x, follows, step))
    if state.past is None:
        return None, None, [summed(*each, None, None) for each in zip(leaves, nexts, steps, strict=True)]
    moved = state.past.moved
    changed = jax.tree.map(jnp.subtract, step, state.past.step)
    return moved, changed, list(map(summed, leaves, nexts, steps, *map(jax.tree.leaves, (moved, changed))))


def _valid(sums: list[Sums]) -> Array:
    """Rows whose round before is known: the step is NaN of those that were not in the window, or that had none."""
    return functools.reduce(jnp.logical_and, [jnp.isfinite(known(each.changed)) for each in sums])


def _pair(first: Array, second: Array) -> Array:
    """Both in one array `[2, B]`, selected and not concatenated: that can be done in place."""
    return jnp.where(jnp.arange(2)[:, None] == 0, first[None], second[None])


def _seen(rows: Rows, residual: Array, share: Array | None, shift: Array, config: LoopConfig) -> Rows:
    """This round's numbers, moved to the rows of the next window."""
    window = config.window
    return Rows(
        residual=window.carried(residual, shift, jnp.inf),
        age=window.carried(rows.age + 1, shift, 0),
        before=jnp.zeros_like(rows.before) if share is None else window.carried(share, shift, 0.0),
        share=rows.share,
    )
