r"""Slopes that know more than the secant, as rules of `experiments.peers.fixed_point`.

The round is y_{i+1} = F_i(x_i) + A_i (y_i - x_i). Before there is history A_i is a scalar, or the prior's Jacobian in
its own basis,

    A_i v = h_i v + g_i (k v + U (K - k) U^T v),   K, k: d E[x_0 | x] / dx along the columns of U, and in the rest.

From the second round on it is the scalar secant, or A_i corrected by what the last m rounds showed (Broyden),

    A <- A + (F(x) - F(x') - A s) s^T / |s|^2,   s = x - x', x': the states of the round before.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from experiments.peers.problem import Case, Recurrence
from pcm_jax.priors.gaussian import Component, components
from pcm_jax.types import Array

HIGH = 1.3
"""The secant is cut off there, as in `pcm_jax.linearization.secant`."""


class Matrix(NamedTuple):
    """A `[T, B, D, D]` as its parts: along `[T, B, 1]` v + U across `[T, B, R]` U^T v + sum_m u_m <s_m, v>."""

    along: Array
    across: Array
    u: Array
    s: Array

    def times(self, gaussian: Component | None, v: Array) -> Array:
        """A v, `[.., B, D]`, for parts with the same leading axes."""
        out = self.along * v
        if gaussian is not None:
            out = out + gaussian.expand(self.across * gaussian.project(v))
        return out + jnp.einsum("m...d,m...->...d", self.u, jnp.einsum("m...d,...d->m...", self.s, v))


class Memory(NamedTuple):
    """The round before, x and F `[T, B, D]`; s and F(x) - F(x') `[m, T, B, D]`, newest first; A to begin with."""

    x: Array
    step: Array
    moved: Array
    changed: Array
    first: Array
    gaussian: Component | None


@dataclasses.dataclass(frozen=True, eq=False)
class Slopes:
    """A rule of rounds. first: `[T, B]` or `[T, 1]`, A before there is history; None for the prior's Jacobian.

    memory: rounds that correct it; 0 for the scalar secant.
    """

    case: Case
    first: Array | None
    memory: int = 0

    def cost(self, problem: Recurrence) -> float:
        return 1.0

    def begin(self, problem: Recurrence) -> Memory:
        size = len(problem.noise)
        flat = jnp.zeros((len(problem), size, problem.noise[0].size), problem.noise.dtype)
        pairs = jnp.zeros((max(1, self.memory), *flat.shape), flat.dtype)
        prior, first = self.case.prior, self.first
        gaussian = None
        if first is None:
            assert prior is not None
            gaussian, first = components(prior, problem.cond, size, flat.dtype), jnp.ones(())
        return Memory(flat, flat, pairs, pairs, jnp.broadcast_to(first, flat.shape[:2]), gaussian)

    def round(self, problem: Recurrence, x: Array, known: Array, memory: Memory, index: Array) -> tuple[Array, Memory]:
        step = problem.steps(x[:-1])
        shape, old = step.shape, x[:-1].reshape(memory.x.shape)
        new = step.reshape(old.shape)
        # The first state is given, and so is every exact one: there s is 0, and what F says is used as it is.
        moved, changed = old - memory.x, new - memory.step
        floor = (4 * jnp.finfo(old.dtype).eps) ** 2 * jnp.sum(old**2, axis=-1)
        seen = (index > 0) & (jnp.sum(moved**2, axis=-1) > floor)
        moved, changed = (jnp.where(seen[..., None], part, 0.0) for part in (moved, changed))
        memory = memory._replace(
            x=old,
            step=new,
            moved=jnp.concatenate([moved[None], memory.moved])[: len(memory.moved)],
            changed=jnp.concatenate([changed[None], memory.changed])[: len(memory.changed)],
        )
        size = jnp.sum(moved**2, axis=-1)
        secant = jnp.clip(jnp.sum(moved * changed, axis=-1) / jnp.where(seen, size, 1.0), 0.0, HIGH)
        scalar = jnp.where(seen, secant, memory.first)[..., None]
        if memory.gaussian is None:
            matrix = Matrix(scalar, jnp.zeros_like(scalar), *_none(old))
            if self.memory:
                matrix = _corrected(matrix._replace(along=memory.first[..., None]), memory)
        else:
            matrix = _jacobian(problem, memory.gaussian, old)
            if self.memory:
                matrix = _corrected(matrix, memory)
            else:
                matrix = matrix._replace(
                    along=jnp.where(seen[..., None], scalar, matrix.along),
                    across=jnp.where(seen[..., None], 0.0, matrix.across),
                )
        return _solve(matrix, memory.gaussian, old, new).reshape(shape), memory


def _none(x: Array) -> tuple[Array, Array]:
    empty = jnp.zeros((0, *x.shape), x.dtype)
    return empty, empty


def _jacobian(problem: Recurrence, gaussian: Component, x: Array) -> Matrix:
    """The prior's, without the clip."""
    solver = problem.solver
    columns = (solver.alpha, solver.sigma, solver.held_data, solver.data_gain)
    alpha, sigma, h, g = (jnp.asarray(column, x.dtype)[:, None, None] for column in columns)
    within, without = gaussian.gains(alpha, sigma)
    batch = x.shape[1]
    along = jnp.broadcast_to(h + g * without, (len(x), batch, 1))
    across = jnp.broadcast_to(g * (within - without), (len(x), batch, within.shape[-1]))
    return Matrix(along, across, *_none(x))


def _corrected(matrix: Matrix, memory: Memory) -> Matrix:
    """Broyden's updates, the oldest first."""
    for s, change in zip(memory.moved[::-1], memory.changed[::-1], strict=True):
        size = jnp.sum(s**2, axis=-1, keepdims=True)
        u = (change - matrix.times(memory.gaussian, s)) / jnp.where(size > 0, size, 1.0)
        u = jnp.where(size > 0, u, 0.0)
        matrix = matrix._replace(u=jnp.concatenate([matrix.u, u[None]]), s=jnp.concatenate([matrix.s, s[None]]))
    return matrix


def _solve(matrix: Matrix, gaussian: Component | None, x: Array, step: Array) -> Array:
    """States 1 .. T `[T, B, D]`, one row after the other."""

    def body(y: Array, row: Any) -> tuple[Array, Array]:
        part, x, step = row
        move = y - x
        y = step + part.times(gaussian, move)
        return y, y

    rows = Matrix(matrix.along, matrix.across, jnp.swapaxes(matrix.u, 0, 1), jnp.swapaxes(matrix.s, 0, 1))
    return lax.scan(body, x[0], (rows, x, step))[1]
