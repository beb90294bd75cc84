r"""The slope A of a round, and the affine scan that uses it.

Every fixed-point method of this family guesses the states x_i, evaluates the steps F_i(x_i) in one batch, and then
solves the recurrence linearised around the guess:

    y_{i+1} = F_i(x_i) + A_i (y_i - x_i)

A = 0 is Jacobi, A = 1 Picard (ParaDiGMS), A = alpha ratio or sigma ratio hold the noise or the data prediction
(ParaTAA), A = dF/dx would be Newton. The fixed point does not depend on A; the number of rounds depends on
|A - dF/dx| (arXiv 2509.21716).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from pcm_jax import checks
from pcm_jax.parallel import WindowAxis
from pcm_jax.recurrence.kernels import segmented_scan, sums
from pcm_jax.types import Array, PyTree


class Sums(NamedTuple):
    """Over a sample's own axes, `[W, B]`, all that a round asks of its states; None without history.

    missed: |F(x) - x_next|^2. size: |x|^2. broken: how many numbers of F(x) are not finite. moved: |x - x'|^2, where x'
    are the states of the round before. changed: |F(x) - F'(x')|^2. cross: <F(x) - F'(x'), x - x'>.
    """

    missed: Array
    size: Array
    broken: Array
    moved: Array | None = None
    changed: Array | None = None
    cross: Array | None = None


def known(sums: Array | None) -> Array:
    """Sums that need history, where there is some."""
    assert sums is not None
    return sums


class History(NamedTuple):
    """What the round before says of this round's window rows.

    moved: how far the states moved since, `[W, B, ...]`. changed: how far their steps did. valid: `[W, B]`, rows of
    which that is known. returned: `[W, B]`, rows that the fine-tuned model evaluated then and the base model evaluates
    now. sums: of this leaf. gain: `[W, B]`, |changed| / |moved| of all leaves together, None if there is one alone. In
    the loop moved and changed are pytrees like the state; a `Linearization` sees them leaf by leaf.
    """

    moved: PyTree
    changed: PyTree
    valid: Array
    returned: Array | None = None
    sums: Sums | None = None
    gain: Array | None = None


class Linearization(Protocol):
    """Chooses A. Implementations are frozen dataclasses: they are static arguments of the compiled sampler.

    One that has an attribute `signed = False` promises slopes that are not negative; some platforms then save kernels.
    One with `within_gain = True` promises slopes of at most 1, or at most the gain |F(x) - F(x')| / |x - x'| that a
    certificate measures; it is shown the slopes of the others.
    One with `by_rows = True` promises that a row's slope depends on this row alone: devices then hold their own rows.
    """

    @property
    def needs_history(self) -> bool:
        """Whether `slope` reads the round before."""

    def slope(self, rows: Any, x: Array, step: Array, before: History | None, first: Array | None) -> Array:
        """A `[W, B]` from states x `[W, B, ...]`, steps F(x) `[W, B, ...]` and the solver's rows.

        rows: the table's, columns `[W, B]` or `[W, 1]`; for `pcm.scan`, which has no table, only a `variance`.

        first: `[W, B]`, what a prior says of a row before there is history.
        """


@dataclasses.dataclass(frozen=True)
class _Constant:
    value: float
    needs_history: bool = False
    by_rows: bool = True

    @property
    def signed(self) -> bool:
        return self.value < 0

    @property
    def within_gain(self) -> bool:
        return abs(self.value) <= 1

    def slope(self, rows: Any, x: Array, step: Array, before: History | None, first: Array | None) -> Array:
        return jnp.full(x.shape[:2], self.value, x.dtype)


@dataclasses.dataclass(frozen=True)
class _Held:
    column: str
    needs_history: bool = False
    by_rows: bool = True

    def slope(self, rows: Any, x: Array, step: Array, before: History | None, first: Array | None) -> Array:
        return jnp.broadcast_to(jnp.asarray(getattr(rows, self.column), x.dtype), x.shape[:2])


@dataclasses.dataclass(frozen=True)
class _Secant:
    low: float
    high: float
    needs_history: bool = True
    signed: bool = False
    within_gain: bool = True
    by_rows: bool = True

    def slope(self, rows: Any, x: Array, step: Array, before: History | None, first: Array | None) -> Array:
        assert before is not None and before.sums is not None
        sums = before.sums
        moved, cross = known(sums.moved), known(sums.cross)
        ratio = cross / jnp.where(moved > 0, moved, 1.0)
        # Under this the difference is the round-off of x, and the quotient of two round-offs says nothing.
        floor = (4 * jnp.finfo(x.dtype).eps) ** 2 * sums.size
        if before.gain is not None:
            # What another leaf did to this one is no slope of its own: of one leaf it is never above the gain.
            ratio = jnp.minimum(ratio, before.gain)
        usable = before.valid & (moved > floor) & jnp.isfinite(cross)
        unknown = jnp.ones_like(ratio) if first is None else first
        if before.returned is not None and first is None:
            unknown = jnp.where(before.returned, _held(rows, ratio.dtype), unknown)
        return jnp.where(usable, jnp.clip(ratio, self.low, self.high), unknown).astype(x.dtype)


def _held(rows: Any, dtype: Any) -> Array:
    """The slope with the data prediction held; 1 where there is no table that knows it."""
    return jnp.asarray(getattr(rows, "held_data", 1.0), dtype)


def identity() -> Linearization:
    """A = 1: plain Picard, the cumulative sum of ParaDiGMS (arXiv 2305.16317)."""
    return _Constant(1.0)


def zero() -> Linearization:
    """A = 0: Jacobi. Information moves one row a round, so it never beats the sequential sampler; a baseline."""
    return _Constant(0.0)


def constant(value: float) -> Linearization:
    """A = value in every row."""
    return _Constant(checks.number("a constant slope", value))


def held_noise() -> Linearization:
    """A = alpha ratio (DDIM): the step with its noise prediction frozen, ParaTAA's choice (arXiv 2402.09970)."""
    return _Held("held_noise")


def held_data() -> Linearization:
    """A = sigma ratio (DDIM): the step with its data prediction frozen."""
    return _Held("held_data")


def secant(low: float = 0.0, high: float = 1.3) -> Linearization:
    r"""The scalar secant of the last two rounds, one number for each sample and step; no extra network call.

        A_i = clip(<F_i(x) - F_i(x_old), x - x_old> / |x - x_old|^2, low, high)

    Without history, in a row's first round, where x did not move and where the fine-tuned model has just handed back to
    the base model, it is the prior's slope. If there is no prior it is 1, and behind the fine-tuned model the slope
    with the data prediction held: near the solution that is the better one.
    """
    low, high = checks.number("low", low), checks.number("high", high)
    if not 0 <= low < high:
        raise ValueError(f"secant needs 0 <= low < high, got low={low}, high={high}")
    return _Secant(low, high)


def same_operator(history: History | None, before: Array | None, share: Array) -> History | None:
    """History where the same blend of models evaluated the row in both rounds; `before`: lambda of the last round.

    A secant through two operators is the derivative of neither (it cost rounds wherever it was tried). Rows that have
    just come back to the base model are marked: their slope is the one that the solver knows without history.
    """
    if history is None or before is None:
        return history
    return history._replace(valid=history.valid & (before == share), returned=(before > 0) & (share == 0))


def summed(x: Array, step: Array, moved: Array | None, changed: Array | None) -> Sums:
    """The sums of one leaf, in float32 at least. x: states `[W + 1, B, ...]`; step: F(x), `[W, B, ...]`."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    missed = (step - x[1:]).astype(wide)
    before = x[:-1].astype(wide)
    terms = [missed * missed, before * before, (~jnp.isfinite(step)).astype(wide)]
    if moved is not None and changed is not None:
        moved, changed = moved.astype(wide), changed.astype(wide)
        terms += [moved * moved, changed * changed, changed * moved]
    return Sums(*sums(tuple(terms)))


def linearise(
    linearization: Linearization,
    rows: Any,
    x: PyTree,
    step: PyTree,
    *,
    history: History | None = None,
    measured: list[Sums] | None = None,
    first_slope: PyTree = None,
    share: Array | None = None,
    recurrent: PyTree = None,
    axis: WindowAxis = WindowAxis(),  # noqa: B008 - frozen
) -> tuple[PyTree, Array | None]:
    """The states that a round makes, `[W, B, ...]`, after x's first: a slope of its own, and a scan, for every leaf.

    Args:
        rows: what the linearization may look at.
        x: states `[W + 1, B, ...]`; the first is known. step: F(x), `[W, B, ...]`.
        history: the round before.
        measured: `summed` of every leaf; None: they are found here.
        first_slope: `[W, B]` for every leaf, the prior's, for rows without history.
        share: lambda `[W, B]`.
        recurrent: which leaves depend on their own past; the others' slope is 0.
        axis: where devices hold their own rows, W are these.

    Returns:
        The states, and the largest slope of a row `[W, B]`; None of a linearization that keeps within the gain.
    """
    if share is not None and first_slope is not None:
        # What the fine-tuned model is taught are drifts: its rows add to whatever state they are reached from.
        first_slope = jax.tree.map(lambda each: jnp.where(share > 0, 1.0, each), first_slope)

    structure: Any = jax.tree.structure(x)
    leaves, steps, count = jax.tree.leaves(x), jax.tree.leaves(step), structure.num_leaves
    own = [True] * count if recurrent is None else jax.tree.leaves(recurrent)
    first = [None] * count if first_slope is None else jax.tree.leaves(first_slope)
    seen: list[History | None] = [None] * count
    if history is not None:
        past = list(zip(jax.tree.leaves(history.moved), jax.tree.leaves(history.changed), strict=True))
        sums = measured or [
            summed(*each, *was) for each, was in zip(zip(leaves, steps, strict=True), past, strict=True)
        ]
        gain = _joint_gain(leaves, sums) if count > 1 else None
        seen = [
            history._replace(moved=moved, changed=changed, sums=found, gain=gain)
            for (moved, changed), found in zip(past, sums, strict=True)
        ]
    made, slopes = [], []
    for each, f, recurs, prior, before in zip(leaves, steps, own, first, seen, strict=True):
        if not recurs:
            made.append(f)
            continue
        slopes.append(linearization.slope(rows, each[:-1], f, before, prior))
        made.append(solve(each, f, slopes[-1], signed=getattr(linearization, "signed", True), axis=axis))
    steepest = None
    if slopes and not getattr(linearization, "within_gain", False):
        steepest = functools.reduce(jnp.maximum, [jnp.abs(slope) for slope in slopes])
    return structure.unflatten(made), steepest


def _joint_gain(leaves: list[Array], sums: list[Sums]) -> Array:
    """|F(x) - F'(x')| / |x - x'| `[W, B]` of all leaves, each in its root mean square."""
    sizes = [math.prod(leaf.shape[2:]) for leaf in leaves]
    moved = functools.reduce(jnp.add, [known(each.moved) / size for each, size in zip(sums, sizes, strict=True)])
    changed = functools.reduce(jnp.add, [known(each.changed) / size for each, size in zip(sums, sizes, strict=True)])
    return jnp.sqrt(changed / jnp.where(moved > 0, moved, 1.0))


def solve(
    x: Array,
    step: Array,
    slope: Array,
    *,
    signed: bool = True,
    axis: WindowAxis = WindowAxis(),  # noqa: B008 - frozen
) -> Array:
    """y_{w+1} = F_w + A_w (y_w - x_w) for the window's rows, y_0 = x_0: one affine scan (kernels.py).

    Args:
        x: states `[W + 1, B, ...]`, of which the first is known.
        step: F_w(x_w), `[W, B, ...]`.
        slope: A_w `[W, B]`. signed: False promises that none is negative.
        axis: whose devices hold the rows.

    Returns:
        y_1 .. y_W, `[W, B, ...]`. Numbers of a step that are not finite stay as they are and reach no other row.

    The scan runs over the corrections y - x, which vanish at the fixed point, and not over the states: what is stored
    is F_w(x_w) plus a small number, so round-off does not pile up along the trajectory.
    """
    defect = step - x[1:]
    slope = jnp.where(jnp.isfinite(slope), slope, 0)
    return step + segmented_scan(axis, slope, jnp.where(jnp.isfinite(defect), defect, 0), signed=signed)
