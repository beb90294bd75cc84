"""What the loop is told, what it carries from round to round, and what it returns."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pcm_jax.recurrence.certificate import Certificate
from pcm_jax.recurrence.linearization import History, Linearization
from pcm_jax.recurrence.problem import Recurrence
from pcm_jax.recurrence.window import Window, all_finite
from pcm_jax.results import SENTINEL, Stats
from pcm_jax.switching import Switch
from pcm_jax.types import Array, PyTree


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """Static half of a call. preview: row whose data prediction stands for the sample after 1, 2, .. rounds."""

    window: Window
    max_rounds: int
    linearization: Linearization
    certificate: Certificate
    switch: Switch | None = None
    return_trajectory: bool = False
    return_rounds: bool = False
    return_emitted: bool = False
    preview: tuple[int, ...] | None = None


class Start(NamedTuple):
    """Where the loop starts: the first state, leaves `[B, ...]`, a guess of all, `[T + 1, B, ...]`, and the slope of
    every leaf, `[T, B]`, in rows without history.
    """  # noqa: D205

    first: PyTree
    guess: PyTree | None
    tol: Array
    first_slope: PyTree = None

    @property
    def batch(self) -> int:
        """B."""
        return int(jax.tree.leaves(self.first)[0].shape[0])


class Rows(NamedTuple):
    """What a window row remembers: the certificate's residual, age and lambda (None without a switch) `[W, B]`."""

    residual: Array
    age: Array
    share: Array | None


class State(NamedTuple):
    """Loop carry.

    `front` `[B]` is the last accepted state, `spent` `[B]` bounds its error; `start` is the window's first row, `x`
    `[W + 1, B, ...]` holds the states from there on, and `bound` `[B]` is what the last round said of the error of the
    sample. trajectory: None where x is the trajectory.
    """

    round: Array
    front: Array
    start: Array
    x: PyTree
    edge: PyTree
    history: History | None
    rows: Rows
    failed: Array
    spent: Array
    bound: Array
    stats: Stats
    trajectory: PyTree
    emitted: PyTree
    preview: PyTree
    iterates: PyTree
    done: Array


class Solved(NamedTuple):
    """What the loop returns: the last state `[B, ...]`, and the fields of `SampleOutput`; emitted `[T, ...]`."""

    last: PyTree
    result: Array
    error_bound: Array
    stats: Stats
    trajectory: PyTree
    emitted: PyTree
    iterates: PyTree


def initial(problem: Recurrence, start: Start, config: LoopConfig) -> State:
    """Every state a copy of the first one, or the guess; nothing accepted."""
    window, batch = config.window, start.batch
    size = window.size

    def zeros(like: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)

    def copies(count: int) -> PyTree:
        if start.guess is None:
            return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), start.first)
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b[1:count]]), start.first, start.guess)

    x = copies(size + 1)
    dtype = jnp.result_type(start.tol)
    history = None
    if config.linearization.needs_history or config.certificate.needs_history:
        before = jax.tree.map(lambda leaf: leaf[:-1], x)
        history = History(before, before, jnp.zeros((size, batch), bool))
    counts = jnp.zeros(batch, jnp.int32)
    rows = Rows(
        residual=jnp.full((size, batch), jnp.inf, dtype),
        age=jnp.zeros((size, batch), jnp.int32),
        share=None if config.switch is None else jnp.zeros((size, batch), dtype),
    )
    stats = Stats(
        rounds=counts,
        evaluations=counts,
        padded_evaluations=jnp.int32(0),
        bounds=jnp.full((config.max_rounds, batch), SENTINEL, dtype),
        accepted=jnp.full((config.max_rounds, batch), SENTINEL, jnp.int32),
    )
    iterates = None
    if config.return_rounds:
        iterates = jax.tree.map(lambda leaf: jnp.zeros((config.max_rounds, *leaf.shape), leaf.dtype), start.first)
    return State(
        round=jnp.int32(0),
        front=counts,
        start=window.start(counts, jnp.ones(batch, bool)),
        x=x,
        edge=zeros(problem.edge(start.first)),
        history=history,
        rows=rows,
        failed=~all_finite(start.first, lead=1),
        spent=jnp.zeros(batch, dtype),
        bound=jnp.full(batch, jnp.inf, dtype),
        stats=stats,
        trajectory=copies(window.num_steps + 1) if config.return_trajectory and not window.whole else None,
        emitted=zeros(problem.emits(start.first)) if config.return_emitted else None,
        preview=None if config.preview is None else start.first,
        iterates=iterates,
        done=jnp.bool_(False),
    )
