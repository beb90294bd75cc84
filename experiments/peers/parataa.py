r"""Triangular Anderson acceleration, ParaTAA's; on plain Picard it is the accelerator alone.

With R = G(x) - x for the affine solve G of the round, and differences of the last m - 1 rounds DX, DR,

    x_i <- x_i + R_i - (DX_i + DR_i) gamma_i,   gamma_i = argmin |R_{<= i} - DR_{<= i} gamma|^2 + lambda |gamma|^2

State i looks only at rows up to its own, so that no row is moved by one behind it; the first row that is not exact yet
takes the plain step, and every round finishes a state. ParaTAA's G holds the noise prediction: A = alpha_{i+1} /
alpha_i. Tang et al., "Accelerating Parallel Sampling of Diffusion Models", arXiv 2402.09970.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp

from experiments.peers.fixed_point import expand, iterate
from experiments.peers.problem import Case, Estimate, Recurrence
from pcm_jax.recurrence.update import solve
from pcm_jax.types import Array


class Memory(NamedTuple):
    """The round before, x and R `[T, B, D]`, and differences `[m - 1, T, B, D]`, newest first."""

    x: Array
    residual: Array
    dx: Array
    dr: Array


@dataclasses.dataclass(frozen=True)
class TriangularAnderson:
    """memory: m, rounds that are combined; 1 is the plain fixed point. slope: A, "one" or "held_noise".

    ridge: lambda for each dimension of the sample. 6e-8 is ParaTAA's 1e-3 on latents of 4x64x64.
    """

    memory: int
    slope: str = "held_noise"
    ridge: float = 6e-8

    def cost(self, problem: Recurrence) -> float:
        return 1.0

    def begin(self, problem: Recurrence) -> Memory:
        flat = jnp.zeros((len(problem), len(problem.noise), problem.noise[0].size), problem.noise.dtype)
        pairs = jnp.zeros((self.memory - 1, *flat.shape), flat.dtype)
        return Memory(flat, flat, pairs, pairs)

    def round(self, problem: Recurrence, x: Array, known: Array, memory: Memory, index: Array) -> tuple[Array, Memory]:
        step = problem.steps(x[:-1])
        a = jnp.ones(step.shape[:2], x.dtype)
        if self.slope == "held_noise":
            a *= jnp.asarray(problem.solver.held_noise, x.dtype)[:, None]
        old = x[1:].reshape(*x[1:].shape[:2], -1)
        # A row that is exact stays, in the linear solve too.
        residual = solve(x[1:], jnp.where(expand(known, step), x[1:], step), a).reshape(old.shape) - old
        residual = jnp.where(expand(known, residual), 0.0, residual)
        if self.memory == 1:
            return (old + residual).reshape(step.shape), memory
        again = index > 0
        dx = jnp.concatenate([jnp.where(again, old - memory.x, 0.0)[None], memory.dx])[: self.memory - 1]
        dr = jnp.concatenate([jnp.where(again, residual - memory.residual, 0.0)[None], memory.dr])[: self.memory - 1]
        seen = jnp.where(expand(known, old)[None], 0.0, dr)
        gram = jnp.cumsum(jnp.einsum("mtbd,ntbd->tbmn", seen, seen), axis=0)
        right = jnp.cumsum(jnp.einsum("mtbd,tbd->tbm", seen, residual), axis=0)
        ridge = self.ridge * old.shape[-1] * jnp.eye(self.memory - 1, dtype=x.dtype)
        gamma = jnp.linalg.solve(gram + ridge[None, None], right[..., None])[..., 0]
        mixed = old + residual - jnp.einsum("mtbd,tbm->tbd", dx + dr, gamma)
        plain = jnp.arange(len(problem)) <= jnp.sum(known)
        new = jnp.where(expand(plain, mixed), old + residual, mixed)
        return new.reshape(step.shape), Memory(old, residual, dx, dr)


def parataa(case: Case, memory: int) -> Iterator[Estimate]:
    """With the noise prediction held."""
    return iterate(case, TriangularAnderson(memory))


def anderson(case: Case, memory: int) -> Iterator[Estimate]:
    """On Picard."""
    return iterate(case, TriangularAnderson(memory, "one"))


MEMORIES = (2, 3, 4, 5)
"""ParaTAA's own range."""
