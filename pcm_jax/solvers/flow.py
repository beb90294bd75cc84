"""Euler's method on a velocity field."""

from __future__ import annotations

import numpy as np

from pcm_jax import checks
from pcm_jax.schedules import Schedule
from pcm_jax.solvers.build import build
from pcm_jax.solvers.clip import Clip
from pcm_jax.solvers.grid import Grid, Steps, make_grid
from pcm_jax.solvers.table import Solver
from pcm_jax.types import PredictionType


def straight(grid: Grid) -> bool:
    """Whether dx / dsigma = (x - x_0) / sigma: alpha = 1 - sigma (rectified flow) or alpha = 1 (EDM)."""
    return bool(np.allclose(grid.alpha, 1 - grid.sigma) or np.allclose(grid.alpha, 1))


def euler(
    schedule: Schedule,
    num_steps: int,
    *,
    stochastic: bool = False,
    prediction: PredictionType = "velocity",
    clip: Clip = None,
    spacing: Steps = None,
    offset: int = 0,
) -> Solver:
    r"""Euler's method in sigma on dx / dsigma = (x - x_0) / sigma, for rectified flow and EDM.

        x' = x + (sigma' - sigma) (x - x_0) / sigma

    With `prediction="velocity"` on rectified flow this is x' = x + (sigma' - sigma) p. `stochastic`: every step goes to
    the data and from there to new noise, x' = alpha' x_0 + sigma' z, as few-step distilled models are sampled.
    Reference: arXiv 2209.03003, section 2; arXiv 2206.00364, algorithm 1 without its correction; arXiv 2303.01469,
    algorithm 1 (stochastic).
    """
    checks.flag("stochastic", stochastic)
    grid = make_grid(schedule, num_steps, spacing, offset)
    if not straight(grid):
        raise ValueError(
            "euler needs rectified_flow() or edm(), where dx/dsigma = (x - x_0) / sigma; on a VP schedule use ddim, "
            "which is Euler's method in sigma / alpha"
        )
    _, sigma, alpha_next, sigma_next = grid.pairs()
    if stochastic:
        a, name = np.zeros(num_steps), f"euler_stochastic-{num_steps}"
        return build(name, grid, prediction, clip, a=a, b=alpha_next, c=sigma_next)
    h = sigma_next - sigma
    return build(f"euler-{num_steps}", grid, prediction, clip, a=1 + h / sigma, b=-h / sigma)
