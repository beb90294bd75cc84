"""All that rounds start from: the one place that the sampler and the trainer take it from."""

from __future__ import annotations

import jax.numpy as jnp

from pcm_jax.priors.gaussian import GaussianPrior, per_sample
from pcm_jax.priors.guess import trajectory
from pcm_jax.priors.slopes import slope
from pcm_jax.solvers import Solver
from pcm_jax.types import Array, Cond


def start(
    prior: GaussianPrior,
    solver: Solver,
    noise: Array,
    step_noise: Array | None,
    cond: Cond,
    *,
    guidance: float | None = None,
) -> tuple[Array, Array]:
    """`trajectory` `[T + 1, B, ...]` and `slope` `[T, B]`."""
    cond = per_sample(cond, noise.shape[0])
    guess = trajectory(prior, solver, noise, step_noise, cond, guidance=guidance)
    slopes = slope(prior, solver, cond)
    slopes = slopes[:, None] if slopes.ndim == 1 else slopes
    return guess, jnp.broadcast_to(slopes, guess[1:].shape[:2]).astype(guess.dtype)
