r"""Certificates: how many leading states of a round are exact to the tolerance, and a bound on the sample's error.

At the start of a round the states x_0 .. x_T are given and F_i(x_i) has just been evaluated. Each row's defect is what
its state misses of its neighbour's step,

    d_i = || F_i(x_i) - x_{i+1} ||_rms,

and an error of x_i arrives in x_{i+1} multiplied by the gain of F_i. With gains g_i the error of x_{i+1} is at most

    E_{i+1} = g_i E_i + d_i,        E_0 = 0,

in units of the data. `defect_sum` spends the tolerance on that sum. The gains are those that the last two rounds show,
g_i = max(||F_i(x_i) - F_i(x'_i)|| / ||x_i - x'_i||, 1): measured in the direction in which the round moved, which is,
to first order, that of the error. What is returned is one round nearer than the states that the bound was measured on;
that margin makes up for gains that no direction has shown yet.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Protocol

import jax.numpy as jnp

from pcm_jax.parallel import WindowAxis
from pcm_jax.recurrence.kernels import affine_scan
from pcm_jax.recurrence.linearization import History, Sums, known
from pcm_jax.recurrence.norms import Norm, difference, from_squares, noise_units, of_rows, root_mean_square
from pcm_jax.recurrence.window import leading
from pcm_jax.types import Array, PyTree


class Evidence(NamedTuple):
    """What a round shows of the window's rows.

    row: int32 `[W, B]` or `[W, 1]`, index in the solver's table; num_steps: T; whole: whether all rows are in the
    window. front: `[B]`, the last accepted state; rows before it are held where they are, their step is the state that
    follows. x: states `[W, B, ...]` that the round started from, follows: those after them, step: F(x), y: what the
    round made of those after them. sums: of every leaf. variance: `[W, B]`, unit of norms. inside: `[W, B]`, False past
    the end, None where that cannot be. sound: `[W, B]`, held, or evaluated by the base model alone and finite. before:
    the round before, valid where the same model evaluated the row. steepest: `[W, B]`, the largest slope that made y,
    None where it keeps within the gain. spent: `[B]`, bound on the error of the state at the front. bound: `[B]`, what
    the round before said of the error of the sample.

    axis: where its devices hold their own rows, x, follows, step, y and the arrays of `before` have these alone, and
    numbers `[W, B]` are whole. States are pytrees; a sampler's is one array.
    """

    row: Array
    num_steps: int
    whole: bool
    front: Array
    x: PyTree
    follows: PyTree
    step: PyTree
    y: PyTree
    sums: list[Sums]
    variance: Array
    inside: Array | None
    sound: Array
    before: History | None
    steepest: Array | None
    spent: Array
    bound: Array
    axis: WindowAxis = WindowAxis()


class Verdict(NamedTuple):
    """accepted: int32 `[B]`, leading states of y that are, the held ones among them. spent: `[B]`, bound on the error
    of the last of them. bound: `[B]`, on the error of the whole trajectory's last state, inf where the window does not
    show it. residual: `[W, B]`, each row's own, for switches; inf where nothing is known.
    """  # noqa: D205

    accepted: Array
    spent: Array
    bound: Array
    residual: Array


class Certificate(Protocol):
    """Decides in the loop. Implementations are frozen dataclasses: static arguments of the compiled sampler.

    One that has an attribute `by_rows = True` looks at states through sums and `norms.of_rows` alone: devices then hold
    their own rows.
    """

    @property
    def norm(self) -> Norm:
        """Of defects or changes."""

    @property
    def needs_history(self) -> bool:
        """Whether `judge` reads the round before."""

    def judge(self, see: Evidence, tol: Array) -> Verdict:
        """At most the rows that are `sound` from the front on; state b + 1 is always exact when state b is."""


@dataclasses.dataclass(frozen=True)
class _DefectSum:
    norm: Norm
    needs_history: bool = True
    by_rows: bool = True

    def judge(self, see: Evidence, tol: Array) -> Verdict:
        change = difference(see.step, see.follows)
        missed = from_squares(self.norm, [each.missed for each in see.sums], change, see.variance, see.axis)
        # A norm is at least 0: one that says less, or nothing, certifies nothing.
        defect = jnp.where(see.sound & (missed >= 0), missed, jnp.inf)
        gain, measured = self._gain(see)
        counts = see.row >= see.front[None]
        if see.inside is not None:
            counts &= see.inside
        cost = jnp.where(counts, jnp.where(measured, defect, _UNMEASURED * defect), 0.0)
        gain = jnp.where(counts, gain, 1.0)
        if see.whole:
            # Accepting row by row once the window shows the end would freeze errors and cost rounds: everything is
            # accepted at once, and until then only what costs nothing.
            total = affine_scan(gain, cost, signed=False)
            bound = self._slowly(total[-1], see.bound)
            enough = (bound <= tol)[None]
            accepted = leading(see.sound & ((total <= 0) | enough | (see.row <= see.front[None])))
            return Verdict(accepted, jnp.where(bound <= tol, bound, 0.0), bound, defect)
        total = affine_scan(gain, cost, see.spent, signed=False)
        reaches = see.row[-1] + 1 >= see.num_steps
        bound = jnp.where(reaches, self._slowly(total[-1], see.bound), jnp.inf)
        limit = jnp.where(reaches[None], see.spent[None], _LEADING * tol * self._share(see, gain))
        certified = (total <= limit) | (bound <= tol)[None]
        # The step at the front is taken from an accepted state: its own defect has no part in it.
        sound = see.sound if see.inside is None else see.sound & see.inside
        accepted = leading(sound & (certified | (see.row <= see.front[None])))
        at_front = see.row == see.front[None]
        behind = jnp.where(at_front, gain * see.spent[None], total)
        last = see.axis.take(behind, jnp.maximum(accepted - 1, 0)[None])[0]
        spent = jnp.where(see.row[0] + accepted > see.front, last, see.spent)
        return Verdict(accepted, jnp.where(bound <= tol, bound, spent), bound, defect)

    def _slowly(self, total: Array, before: Array) -> Array:
        """States that stand still before anything reached them are not exact: a bound falls only so fast."""
        return jnp.maximum(total, _SLOWEST * jnp.where(before < jnp.inf, before, 0.0))

    def _share(self, see: Evidence, gain: Array) -> Array:
        """Of tol, `[W, B]`: in proportion to where a row ends, less what the rows behind it will make of its error.

        Rows behind the window are taken to be like those in it.
        """
        log_gain = jnp.log(gain)
        upto = jnp.cumsum(log_gain, axis=0)
        unseen = jnp.maximum(see.num_steps - 1 - see.row[-1:], 0) / len(log_gain)
        return (see.row + 1) / see.num_steps * jnp.exp(upto - (1 + unseen) * upto[-1:])

    def _gain(self, see: Evidence) -> tuple[Array, Array]:
        """Gains `[W, B]`, and where they were measured."""
        assert see.before is not None
        squares = [known(each.moved) for each in see.sums]
        moved = from_squares(self.norm, squares, see.before.moved, see.variance, see.axis)
        # The round-off of x is in both differences. Where it is all that moved their quotient says nothing; where it is
        # part of what changed it is no gain, which a product over hundreds of rows would take it for.
        size = from_squares(self.norm, [each.size for each in see.sums], see.x, see.variance, see.axis)
        floor = 4 * jnp.finfo(moved.dtype).eps * size
        squares = [known(each.changed) for each in see.sums]
        change = from_squares(self.norm, squares, see.before.changed, see.variance, see.axis)
        ratio = jnp.maximum(change - floor, 0.0) / jnp.where(moved > 0, moved, 1.0)
        measured = see.before.valid
        gain = jnp.where(measured & (moved > floor), jnp.clip(ratio, 1.0, _LARGEST), 1.0)
        if see.steepest is not None:
            # What is returned is y, and y_{i+1} misses A_i (y_i - x_i) beside what F_i makes of the error of x_i.
            gain = jnp.maximum(gain, jnp.minimum(see.steepest, _LARGEST))
        return gain, measured


@dataclasses.dataclass(frozen=True)
class _LastChange:
    norm: Norm
    needs_history: bool = False
    by_rows: bool = True

    def judge(self, see: Evidence, tol: Array) -> Verdict:
        change = of_rows(self.norm, difference(see.y, see.follows), see.variance, see.axis)
        residual = jnp.where(jnp.isfinite(change) & (change >= 0), change, jnp.inf)
        # State b + 1 + w is exact if states up to b + w, from which it was computed, changed by at most tol.
        settled = jnp.concatenate([jnp.ones_like(residual[:1], bool), residual[:-1] <= tol])
        sound = see.sound if see.inside is None else see.sound & see.inside
        accepted = leading(sound & (settled | (see.row <= see.front[None])))
        used = jnp.arange(residual.shape[0])[:, None] < accepted[None] - 1
        shown = residual if see.inside is None else jnp.where(see.inside, residual, 0.0)
        spent = jnp.maximum(see.spent, jnp.max(jnp.where(used, residual, 0.0), axis=0))
        return Verdict(accepted, spent, jnp.max(shown, axis=0), residual)


_UNMEASURED = 3.0
"""Factor on the defects of rows whose gain no second round has measured yet."""

_LEADING = 0.5
"""Part of tol that is spent before the window shows the end; the rest is for gains that no row has shown yet."""

_SLOWEST = 0.1
"""A bound falls by at most this factor a round: states that stand still before anything reached them are not exact."""

_LARGEST = 1e3
"""Of a gain."""


def defect_sum(norm: Norm = root_mean_square) -> Certificate:
    r"""`tol` bounds the error of the sample: E_T, the sum of all defects with the gains max(measured, 1).

    A window that reaches the end accepts everything at once when what is spent and all remaining defects add up to at
    most tol. One that does not slides over the leading rows whose bound is within their share of half of tol, and a
    sample whose share grew beyond tol on the rows behind ends as MAX_ROUNDS with the bound that it has.

    The bound is an estimate where the network is far from linear between two rounds: of 10,000 samples of random stiff
    and expansive networks a few in ten thousand are further off (`python -m experiments.coverage`). It leaves out the
    rounding of the arithmetic: see `tol` of `sample_picard`.

    Args:
        norm: of defects; in units that are the same in every row, such as the data's.
    """
    return _DefectSum(norm)


def last_change(norm: Norm = noise_units) -> Certificate:
    """ParaDiGMS's rule (arXiv 2305.16317, equation 8), for comparison with papers: `tol` bounds the last change.

    A state is accepted once every state that it was computed from changed by at most tol in the last round, measured by
    `norm`. That bounds no error: of 1,872 random samples 31 ended further off than tol in units of the data, the worst
    12.6 times. `error_bound` is the largest change at which a state was accepted.
    """
    return _LastChange(norm)
