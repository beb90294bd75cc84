"""What the loop is told, what it carries from round to round, and what it returns."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pcm_jax.parallel import WindowAxis
from pcm_jax.parallel.ring import Ring, holding
from pcm_jax.recurrence.certificate import Certificate
from pcm_jax.recurrence.linearization import Linearization
from pcm_jax.recurrence.problem import Recurrence
from pcm_jax.recurrence.window import Window, after, all_finite
from pcm_jax.results import SENTINEL, Stats
from pcm_jax.switching import Switch
from pcm_jax.types import Array, PyTree


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """Static half of a call.

    report: keep bounds and fronts of every round. preview: row whose data prediction stands for the sample after 1, 2,
    .. rounds. depth: k, of earlier rows that a row reads.
    """

    window: Window
    max_rounds: int
    linearization: Linearization
    certificate: Certificate
    switch: Switch | None = None
    return_trajectory: bool = False
    return_rounds: bool = False
    return_emitted: bool = False
    report: bool = False
    preview: tuple[int, ...] | None = None
    depth: int = 0

    @property
    def held(self) -> int:
        """W where devices hold their own rows, else 0."""
        apart = all(getattr(each, "by_rows", False) for each in (self.linearization, self.certificate))
        return self.window.size if apart and (self.window.whole or self.window.size >= self.depth) else 0

    def on(self, axis: WindowAxis) -> LoopConfig:
        """On these devices."""
        axis = holding(axis, self.held, self.window.num_steps) if self.held else axis
        return dataclasses.replace(self, window=dataclasses.replace(self.window, axis=axis))


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
    """Of window rows, `[W, B]`: the certificate's residual and the age, for switches; lambda, the last and the next."""

    residual: Array
    age: Array
    before: Array
    share: Array


class Past(NamedTuple):
    """The round before, in this round's rows `[W, B, ...]`: how far the states moved since, and F(x) there.

    A step is NaN in rows that were not in the window: nothing that is computed from it is taken for known.
    """

    moved: PyTree
    step: PyTree


class State(NamedTuple):
    """Loop carry.

    front: `[B]`, the last accepted state, T + 1 once the network broke down. start: the window's first row. x:
    `[W + 1, B, ...]`, the states from there on. seam: `[1, B, ...]`, the first of them, where a window goes round the
    devices and another state may lie in its place (parallel/ring.py); else None. edge: the memories before them. tuned:
    whether the coming round asks the fine-tuned model; None without one. error: `[2, B]`, bounds on the error of the
    state at the front, and of the sample as the last round knew it. tally: int32 `[2, B]`, rounds and evaluations.
    report: bounds and fronts of all rounds. trajectory: of all states but the first, None where x has them. more:
    whether there is another round.
    """

    round: Array
    front: Array
    start: Array
    x: PyTree
    seam: PyTree
    edge: PyTree
    past: Past | None
    rows: Rows | None
    tuned: Array | None
    error: Array
    tally: Array
    report: tuple[Array, ...] | None
    trajectory: PyTree
    emitted: PyTree
    preview: PyTree
    iterates: PyTree
    more: Array


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
    window, axis, batch = config.window, config.window.axis, start.batch
    size = window.size

    def zeros(like: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)

    def copies(count: int) -> PyTree:
        if start.guess is None:
            return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), start.first)
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b[1:count]]), start.first, start.guess)

    x = axis.part(copies(size + 1), beside=1)
    dtype = jnp.result_type(start.tol)
    past = None
    if config.linearization.needs_history or config.certificate.needs_history:
        before = jax.tree.map(lambda leaf: leaf[:-1], x)
        past = Past(zeros(before), jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), before))
    counts = jnp.zeros(batch, jnp.int32)
    rows = None
    if config.switch is not None:
        nothing = jnp.zeros((size, batch), dtype)
        rows = Rows(nothing + jnp.inf, jnp.zeros((size, batch), jnp.int32), nothing, nothing)
    trajectory = config.return_trajectory and not window.whole
    reported = (config.max_rounds, batch)
    report = (jnp.full(reported, SENTINEL, dtype), jnp.full(reported, SENTINEL, jnp.int32))
    iterates = None
    if config.return_rounds:
        iterates = jax.tree.map(lambda leaf: jnp.zeros((config.max_rounds, *leaf.shape), leaf.dtype), start.first)
    return State(
        round=jnp.int32(0),
        front=jnp.where(all_finite(start.first, lead=1), 0, window.num_steps + 1).astype(jnp.int32),
        start=window.start(counts, jnp.ones(batch, bool)),
        x=x,
        seam=jax.tree.map(lambda leaf: leaf[None], start.first) if isinstance(axis, Ring) else None,
        edge=zeros(problem.edge(start.first)),
        past=past,
        rows=rows,
        tuned=None if rows is None else jnp.bool_(False),
        error=jnp.stack([jnp.zeros(batch, dtype), jnp.full(batch, jnp.inf, dtype)]),
        tally=jnp.stack([counts, counts]),
        report=report if config.report else None,
        trajectory=axis.part(after(copies(window.num_steps + 1))) if trajectory else None,
        emitted=axis.part(zeros(problem.emits(start.first))) if config.return_emitted else None,
        preview=None if config.preview is None else start.first,
        iterates=iterates,
        more=jnp.bool_(True),
    )
