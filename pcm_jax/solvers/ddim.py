"""DDIM, and Euler ancestral sampling, which is DDIM with eta = 1 in other units."""

from __future__ import annotations

import numpy as np

from pcm_jax import checks
from pcm_jax.schedules import Schedule
from pcm_jax.solvers.build import build
from pcm_jax.solvers.clip import Clip
from pcm_jax.solvers.grid import Steps, make_grid
from pcm_jax.solvers.table import Solver
from pcm_jax.types import PredictionType


def ddim(
    schedule: Schedule,
    num_steps: int,
    *,
    eta: float = 0.0,
    prediction: PredictionType = "epsilon",
    clip: Clip = None,
    clipped_noise: bool = True,
    spacing: Steps = None,
    offset: int = 0,
) -> Solver:
    r"""DDIM with noise level eta, for any schedule.

        x' = alpha' x_0 + sqrt(sigma'^2 - s^2) eps + s z,  s^2 = eta^2 Var[x' | x, x_0],  eps = (x - alpha x_0) / sigma

    Euler's method on the probability-flow ODE in sigma / alpha is eta = 0; `euler_ancestral` is eta = 1.

    Args:
        schedule: marginals alpha, sigma; the grid's `spacing` and `offset` default to the schedule's own.
        num_steps: T, steps from noise to data.
        eta: 0 is deterministic (the probability-flow ODE's exponential Euler step), 1 is DDPM.
        prediction: what the network returns.
        clip: bound on |x_0|, or a function of it, inside every step.
        clipped_noise: whether eps follows from the clipped x_0 (diffusers' `use_clipped_model_output=True`), or from
            the network's own (its default).

    Reference: arXiv 2010.02502, equation 12.
    """
    eta = checks.number("eta", eta, 0, hint="0 is DDIM, 1 is DDPM")
    checks.flag("clipped_noise", clipped_noise)
    grid = make_grid(schedule, num_steps, spacing, offset)
    alpha, sigma, alpha_next, sigma_next = grid.pairs()
    s = eta * np.sqrt(np.maximum(grid.ancestral_variance, 0.0))
    if np.any(s > sigma_next):
        raise ValueError(f"eta={eta} injects more noise than the next state has; lower eta")
    a = np.sqrt(sigma_next**2 - s**2) / sigma
    raw = None if clipped_noise else -alpha * a
    b = alpha_next - (alpha * a if clipped_noise else 0.0)
    return build(f"ddim-{num_steps}", grid, prediction, clip, a=a, b=b, raw=raw, c=s)


def euler_ancestral(
    schedule: Schedule,
    num_steps: int,
    *,
    eta: float = 1.0,
    prediction: PredictionType = "epsilon",
    clip: Clip = None,
    spacing: Steps = None,
    offset: int = 0,
) -> Solver:
    r"""Euler's method in s = sigma / alpha down to s_down, and noise back up to s'.

        s_up^2 = eta^2 s'^2 (s^2 - s'^2) / s^2,   s_down^2 = s'^2 - s_up^2
        x' / alpha' = x / alpha + (s_down - s) eps + s_up z

    s_up^2 is what DDPM injects, in units of alpha', so this is `ddim(eta=eta)`, row for row.
    Reference: arXiv 2206.00364, appendix; `sample_euler_ancestral` of k-diffusion.
    """
    return ddim(schedule, num_steps, eta=eta, prediction=prediction, clip=clip, spacing=spacing, offset=offset)
