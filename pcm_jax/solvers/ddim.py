"""DDIM."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pcm_jax import checks
from pcm_jax.schedules import Schedule
from pcm_jax.solvers.table import Clip, Solver, build, make_grid
from pcm_jax.types import PredictionType, Spacing


def ddim(
    schedule: Schedule,
    num_steps: int,
    *,
    eta: float = 0.0,
    prediction: PredictionType = "epsilon",
    clip: Clip = None,
    spacing: Spacing | Sequence[float] | None = None,
    offset: int = 0,
) -> Solver:
    r"""DDIM with noise level eta, for any schedule.

        x' = alpha' x_0 + sqrt(sigma'^2 - s^2) eps + s z,  s^2 = eta^2 Var[x' | x, x_0],  eps = (x - alpha x_0) / sigma

    Args:
        schedule: marginals alpha, sigma; the grid's `spacing` and `offset` default to the schedule's own.
        num_steps: T, steps from noise to data.
        eta: 0 is deterministic (the probability-flow ODE's exponential Euler step), 1 is DDPM.
        prediction: what the network returns.
        clip: bound on |x_0|, or a function of it, inside every step; eps follows from the clipped x_0 (diffusers'
            `use_clipped_model_output=True`).

    Reference: arXiv 2010.02502, equation 12.
    """
    eta = checks.number("eta", eta, 0, hint="0 is DDIM, 1 is DDPM")
    grid = make_grid(schedule, num_steps, spacing, offset)
    alpha, sigma, alpha_next, sigma_next = grid.pairs()
    s = eta * np.sqrt(grid.ancestral_variance)
    if np.any(s > sigma_next):
        raise ValueError(f"eta={eta} injects more noise than the next state has; lower eta")
    a = np.sqrt(sigma_next**2 - s**2) / sigma
    return build(f"ddim-{num_steps}", grid, prediction, clip, a=a, b=alpha_next - alpha * a, c=s)
