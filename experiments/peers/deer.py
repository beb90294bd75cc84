r"""Newton on the recurrence: DEER with the exact Jacobian, quasi-DEER with its diagonal.

    y_{i+1} = F_i(x_i) + J_i (y_i - x_i),   J_i = dF_i / dx at x_i

DEER (Lim et al., arXiv 2309.12252) needs all of J, a tangent for each dimension. Quasi-DEER (Gonzalez et al., arXiv
2407.19115) keeps its diagonal; for a network that is no closed form, so it is estimated: v * J v has the mean diag(J)
for random signs v, and takes one tangent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from experiments.peers.fixed_point import iterate
from experiments.peers.problem import Case, Estimate, Recurrence
from pcm_jax.recurrence.update import solve
from pcm_jax.types import Array


@dataclasses.dataclass(frozen=True)
class Diagonal:
    """One probe a round. low, high: bounds on the estimate, without which it is unstable; those of our secant."""

    low: float = 0.0
    high: float = 1.3
    seed: int = 3

    def cost(self, problem: Recurrence) -> float:
        """The value and one tangent."""
        return 2.0

    def begin(self, problem: Recurrence) -> None:
        return None

    def round(self, problem: Recurrence, x: Array, known: Array, memory: None, index: Array) -> tuple[Array, None]:
        key = jax.random.fold_in(jax.random.key(self.seed), index)
        probe = jax.random.rademacher(key, x[:-1].shape, x.dtype)
        step, tangent = jax.jvp(problem.steps, (x[:-1],), (probe,))
        return solve(x[1:], step, jnp.clip(probe * tangent, self.low, self.high)), None


@dataclasses.dataclass(frozen=True)
class Jacobian:
    """All of it, column by column: what no choice of a slope can beat for long."""

    def cost(self, problem: Recurrence) -> float:
        """The value and a tangent for each dimension."""
        return 1.0 + problem.noise[0].size

    def begin(self, problem: Recurrence) -> None:
        return None

    def round(self, problem: Recurrence, x: Array, known: Array, memory: None, index: Array) -> tuple[Array, None]:
        old, size = x[:-1], problem.noise[0].size
        step, tangent = jax.linearize(problem.steps, old)

        def column(direction: Array) -> Array:
            towards = jnp.broadcast_to(direction.reshape(old.shape[2:]), old.shape)
            return tangent(towards).reshape(*old.shape[:2], size)

        jacobian = jnp.moveaxis(jax.lax.map(column, jnp.eye(size, dtype=x.dtype)), 0, -1)
        defect = (step - x[1:]).reshape(*old.shape[:2], size)

        def correct(error: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
            error = jnp.einsum("boi,bi->bo", row[0], error) + row[1]
            return error, error

        _, errors = jax.lax.scan(correct, jnp.zeros_like(defect[0]), (jacobian, defect))
        return x[1:] + errors.reshape(step.shape), None


def quasi_deer(case: Case) -> Iterator[Estimate]:
    """Diagonal probe, from copies of the noise."""
    return iterate(case, Diagonal())


def deer(case: Case) -> Iterator[Estimate]:
    """The exact Jacobian, from copies of the noise."""
    return iterate(case, Jacobian())
