"""First guesses of the whole trajectory, for `sample_picard(init=..)`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from pcm_jax import checks
from pcm_jax.solvers import Solver
from pcm_jax.types import Array, ArrayLike


def from_data(solver: Solver, noise: ArrayLike, data: ArrayLike, step_noise: ArrayLike | None = None) -> Array:
    r"""The states that the solver would pass if its network predicted `data` in every row, `Solver.hold`.

    It goes through this sampler's own noise, so a guess of the sample alone is enough: in receding-horizon control the
    last decision's actions, shifted by those that were carried out.

    Args:
        noise: the sampler's `[B, ...]`. data: the guess of its sample, of the same shape.
        step_noise: `[T, B, ...]` of a stochastic solver, the one that the sampler gets.

    Returns:
        `[T + 1, B, ...]`.

    Raises:
        ValueError: shapes that do not fit, or a stochastic solver without its step noise.
    """
    if not isinstance(solver, Solver):
        raise ValueError(f"solver must be a pcm_jax.solvers table, got {checks.shown(solver)}")
    checks.floats("noise", noise, "draw it with jax.random.normal")
    checks.floats("data", data, "a guess of the sample")
    noise, data = jnp.asarray(noise), jnp.asarray(data)
    if noise.shape != data.shape:
        raise ValueError(f"data must have the shape of the noise, {noise.shape}, got {data.shape}")
    if solver.stochastic and (step_noise is None or jnp.shape(step_noise) != (len(solver), *noise.shape)):
        raise ValueError(
            f"{solver.name} adds noise in its steps: give the sampler's step_noise, {(len(solver), *noise.shape)}, "
            f"got {None if step_noise is None else jnp.shape(step_noise)}"
        )
    dtype = jnp.promote_types(noise.dtype, jnp.float32)
    z = jnp.asarray(step_noise, dtype) if solver.stochastic and step_noise is not None else None

    def step(carry: tuple[Array, Array | None], row: tuple[Solver, Array | None]) -> Any:
        (x, before), (table, z) = carry, row
        x, f = table.hold(x, data.astype(dtype), before=before, z=z)
        before = None if before is None else jnp.concatenate([before[1:], f[None]])
        return (x, before), x

    first = solver.first(noise.astype(dtype))
    before = jnp.zeros((solver.depth, *first.shape), dtype) if solver.multistep else None
    _, states = jax.lax.scan(step, (first, before), (solver, z))
    return jnp.concatenate([first[None], states])
