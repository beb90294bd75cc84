"""First guesses of the whole trajectory, for `sample_picard(init=..)`."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pcm_jax import checks
from pcm_jax.solvers import Solver
from pcm_jax.types import Array, ArrayLike


def from_data(solver: Solver, noise: ArrayLike, data: ArrayLike, step_noise: ArrayLike | None = None) -> Array:
    r"""The states that the solver would pass if its network predicted `data` in every row.

        x_{i+1} = h_i x_i + g_i data + c_i z_i,   h = solver.held_data, g = solver.data_gain

    It goes through this sampler's own noise, so a guess of the sample alone is enough: in receding-horizon control the
    last decision's actions, shifted by those that were carried out.

    Args:
        noise: the sampler's first state `[B, ...]`. data: the guess of its last, of the same shape.
        step_noise: `[T, B, ...]` of a stochastic solver, the one that the sampler gets.

    Returns:
        `[T + 1, B, ...]`.

    Raises:
        ValueError: shapes that do not fit, or a stochastic solver without its step noise.
    """
    if not isinstance(solver, Solver):
        raise ValueError(f"solver must be a pcm_jax.solvers table, got {checks.shown(solver)}")
    checks.floats("noise", noise, "draw it with jax.random.normal")
    noise, data = jnp.asarray(noise), jnp.asarray(data)
    if noise.shape != data.shape:
        raise ValueError(f"data must have the shape of the noise, {noise.shape}, got {data.shape}")
    if solver.stochastic and (step_noise is None or jnp.shape(step_noise) != (len(solver), *noise.shape)):
        raise ValueError(
            f"{solver.name} adds noise in its steps: give the sampler's step_noise, {(len(solver), *noise.shape)}, "
            f"got {None if step_noise is None else jnp.shape(step_noise)}"
        )
    dtype = jnp.promote_types(noise.dtype, jnp.float32)
    held, gain, c = (jnp.asarray(column, dtype) for column in (solver.held_data, solver.data_gain, solver.c))
    z = jnp.asarray(step_noise, dtype) if solver.stochastic and step_noise is not None else None

    def step(x: Array, row: tuple[Array, Array, Array, Array | None]) -> tuple[Array, Array]:
        h, g, c, z = row
        x = h * x + g * data.astype(dtype)
        x = x if z is None else x + c * z
        return x, x

    first = noise.astype(dtype)
    _, states = jax.lax.scan(step, first, (held, gain, c, z))
    return jnp.concatenate([first[None], states])
