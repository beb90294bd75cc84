r"""Switches: lambda in [0, 1] for every row of a round, the share of the fine-tuned model in its evaluation.

A switch is a pure function of what the loop sees (`SwitchInput`: round, row, age, residual), `[W, B]` arrays; any
hashable function will do. `age` counts the rounds that a row has been in the window, so that rows which enter later
start their own schedule. States are certified only where lambda is 0: a switch decides how many rounds a sample
takes and never what it converges to. One that never lets go never converges.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from pcm_jax import checks
from pcm_jax.types import Array, ArrayLike


class SwitchInput(NamedTuple):
    """What a switch may look at.

    round: scalar int32, from 0. row: int32 `[W, B]`, index in the solver's table. age: int32 `[W, B]`, rounds that the
    row has been in the window. residual: `[W, B]`, the row's defect ||F(x_i) - x_{i+1}|| in the last round, RMS in
    units of the data (or what the certificate measures); inf before its first and where the fine-tuned model ran.
    """

    round: Array
    row: Array
    age: Array
    residual: Array


Switch = Callable[[SwitchInput], Array]
"""lambda `[W, B]` in [0, 1] for the rows of a round."""


@dataclasses.dataclass(frozen=True)
class _Constant:
    value: float

    def __call__(self, see: SwitchInput) -> Array:
        return jnp.full(see.row.shape, self.value, see.residual.dtype)


@dataclasses.dataclass(frozen=True)
class _After:
    rounds: int

    def __call__(self, see: SwitchInput) -> Array:
        return (see.age < self.rounds).astype(see.residual.dtype)


@dataclasses.dataclass(frozen=True)
class _Linear:
    stiffness: float
    rounds: int

    def __call__(self, see: SwitchInput) -> Array:
        return jnp.clip(1.0 - self.stiffness * see.age.astype(see.residual.dtype) / self.rounds, 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class _Frontier:
    rows_per_round: float

    def __call__(self, see: SwitchInput) -> Array:
        return (see.row >= self.rows_per_round * (see.age + 1)).astype(see.residual.dtype)


@dataclasses.dataclass(frozen=True)
class _Table:
    table: tuple[tuple[float, ...], ...]

    @property
    def num_steps(self) -> int:
        """T of the solver that it was measured on."""
        return len(self.table[0])

    def __call__(self, see: SwitchInput) -> Array:
        table = jnp.asarray(self.table, see.residual.dtype)
        rounds, rows = table.shape
        # Rows that slide into the window later start from a neighbour's state, not from the noise of the measurement.
        known = (see.age < rounds) & (see.row < rows) & (see.age == see.round)
        return jnp.where(known, table[jnp.minimum(see.age, rounds - 1), jnp.minimum(see.row, rows - 1)], 0.0)


@dataclasses.dataclass(frozen=True)
class _Adaptive:
    threshold: float
    rounds: int

    def __call__(self, see: SwitchInput) -> Array:
        # A row that has not been evaluated yet has an infinite residual: it starts with the fine-tuned model.
        return ((see.residual > self.threshold) & (see.age < self.rounds)).astype(see.residual.dtype)


def never() -> Switch:
    """lambda = 0: the base model alone, whatever the adapter."""
    return _Constant(0.0)


def always() -> Switch:
    """lambda = 1: the fine-tuned model alone. Fast and never exact: the result is MAX_ROUNDS, by design."""
    return _Constant(1.0)


def after(rounds: int) -> Switch:
    """lambda = 1 for a row's first `rounds` rounds, then 0: a hard switch."""
    return _After(_rounds("after", rounds, 0))


def linear(stiffness: float, rounds: int) -> Switch:
    """lambda = clip(1 - stiffness * age / rounds, 0, 1), the paper's; 0 from rounds / stiffness on."""
    stiffness = checks.number("the stiffness of linear()", stiffness, 0, above=True, hint="at 0 it never lets go")
    return _Linear(stiffness, _rounds("linear", rounds, 1))


def frontier(rows_per_round: float) -> Switch:
    """lambda = 1 on rows >= rows_per_round * (age + 1): early rows go over to the base model first."""
    name = "rows_per_round of frontier()"
    return _Frontier(checks.number(name, rows_per_round, 0, above=True, hint="the border has to move"))


def calibrated(table: ArrayLike) -> Switch:
    """lambda = table[round, row], measured by `pcm_jax.training.calibrate`; 0 after its last round.

    The measurement starts from noise in every row, so it holds for rows that are in the window from the first round on.
    Rows that slide in later start next to an exact state, and run the base model.

    Args:
        table: `[rounds, rows]` in [0, 1].
    """
    try:
        values = np.asarray(table, np.float64)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.ndim != 2 or 0 in values.shape or not np.all((values >= 0) & (values <= 1)):
        found = "other values" if values.ndim == 2 and values.size else f"shape {values.shape}"
        raise ValueError(f"a calibrated table is [rounds, rows] with values in [0, 1], got {found}")
    return _Table(tuple(map(tuple, values.tolist())))


def adaptive(threshold: float = 0.05, rounds: int = 8) -> Switch:
    """lambda = 1 while the row's last residual is above `threshold` (units of the data) and its age under `rounds`."""
    hint = "units of the data; compare with the sampler's tol"
    threshold = checks.number("the threshold of adaptive()", threshold, 0, above=True, hint=hint)
    return _Adaptive(threshold, _rounds("adaptive", rounds, 1))


def _rounds(name: str, rounds: int, least: int) -> int:
    try:
        number = operator.index(rounds)
    except TypeError:
        number = least - 1
    if isinstance(rounds, bool) or number < least:
        raise ValueError(f"{name}() takes a whole number of rounds, at least {least}, got {rounds!r}")
    return number
