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
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from pcm_jax import checks
from pcm_jax.types import Array, PyTree


class History(NamedTuple):
    """The round before, at this round's window rows: states `x`, steps `step` `[W, B, ...]`, `valid` `[W, B]`.

    In the loop x and step are pytrees like the state; a `Linearization` sees them leaf by leaf.

    returned: `[W, B]`, rows that the fine-tuned model evaluated then and the base model evaluates now.
    """

    x: PyTree
    step: PyTree
    valid: Array
    returned: Array | None = None


class Linearization(Protocol):
    """Chooses A. Implementations are frozen dataclasses: they are static arguments of the compiled sampler."""

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

    def slope(self, rows: Any, x: Array, step: Array, before: History | None, first: Array | None) -> Array:
        return jnp.full(x.shape[:2], self.value, x.dtype)


@dataclasses.dataclass(frozen=True)
class _Held:
    column: str
    needs_history: bool = False

    def slope(self, rows: Any, x: Array, step: Array, before: History | None, first: Array | None) -> Array:
        return jnp.broadcast_to(jnp.asarray(getattr(rows, self.column), x.dtype), x.shape[:2])


@dataclasses.dataclass(frozen=True)
class _Secant:
    low: float
    high: float
    needs_history: bool = True

    def slope(self, rows: Any, x: Array, step: Array, before: History | None, first: Array | None) -> Array:
        assert before is not None
        dims, dtype, eps = tuple(range(2, x.ndim)), x.dtype, jnp.finfo(x.dtype).eps
        wide = jnp.promote_types(dtype, jnp.float32)
        dx, df, x = (each.astype(wide) for each in (x - before.x, step - before.step, x))
        moved = jnp.sum(dx * dx, dims)
        ratio = jnp.sum(df * dx, dims) / jnp.where(moved > 0, moved, 1.0)
        # Under this the difference is the round-off of x, and the quotient of two round-offs says nothing.
        floor = (4 * eps) ** 2 * jnp.sum(x * x, dims)
        known = before.valid & (moved > floor) & jnp.isfinite(ratio)
        unknown = jnp.ones_like(ratio) if first is None else first
        if before.returned is not None and first is None:
            unknown = jnp.where(before.returned, _held(rows, x.dtype), unknown)
        return jnp.where(known, jnp.clip(ratio, self.low, self.high), unknown).astype(dtype)


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


def linearise(
    linearization: Linearization,
    rows: Any,
    x: PyTree,
    step: PyTree,
    *,
    history: History | None = None,
    first_slope: PyTree = None,
    share: Array | None = None,
    recurrent: PyTree = None,
) -> PyTree:
    """The states that a round makes, `[W, B, ...]`, after x's first: a slope of its own, and a scan, for every leaf.

    Args:
        rows: what the linearization may look at.
        x: states `[W + 1, B, ...]`; the first is known. step: F(x), `[W, B, ...]`.
        history: the round before. first_slope: `[W, B]` for every leaf, the prior's,
            for rows without history.
        share: lambda `[W, B]`.
        recurrent: which leaves depend on their own past; the others' slope is 0.
    """
    if share is not None and first_slope is not None:
        # What the fine-tuned model is taught are drifts: its rows add to whatever state they are reached from.
        first_slope = jax.tree.map(lambda each: jnp.where(share > 0, 1.0, each), first_slope)

    def leaf(x: Array, step: Array, own: bool, first: Array | None, *before: Array) -> Array:
        if not own:
            return step
        seen = None if history is None else history._replace(x=before[0], step=before[1])
        return solve(x, step, linearization.slope(rows, x[:-1], step, seen, first))

    structure: Any = jax.tree.structure(x)
    count = structure.num_leaves
    own = [True] * count if recurrent is None else jax.tree.leaves(recurrent)
    first = [None] * count if first_slope is None else jax.tree.leaves(first_slope)
    past = [] if history is None else [jax.tree.leaves(history.x), jax.tree.leaves(history.step)]
    return structure.unflatten(map(leaf, jax.tree.leaves(x), jax.tree.leaves(step), own, first, *past))


def solve(x: Array, step: Array, slope: Array) -> Array:
    """y_{w+1} = F_w + A_w (y_w - x_w) for the window's rows, y_0 = x_0: one `associative_scan`.

    Args:
        x: states `[W + 1, B, ...]`, of which the first is known.
        step: F_w(x_w), `[W, B, ...]`.
        slope: A_w `[W, B]`.

    Returns:
        y_1 .. y_W, `[W, B, ...]`.

    The scan runs over the corrections y - x, which vanish at the fixed point, and not over the states: what is stored
    is F_w(x_w) plus a small number, so round-off does not pile up along the trajectory.
    """
    slope = slope.reshape(slope.shape + (1,) * (x.ndim - slope.ndim))
    defect = step - x[1:]
    _, correction = lax.associative_scan(_compose, (slope, defect))
    shifted = jnp.concatenate([jnp.zeros_like(correction[:1]), correction[:-1]])
    return step + slope * shifted


def _compose(first: tuple[Array, Array], then: tuple[Array, Array]) -> tuple[Array, Array]:
    """Composition of two affine maps d -> a d + b."""
    return then[0] * first[0], then[0] * first[1] + then[1]
