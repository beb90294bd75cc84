"""DPM2: a midpoint method in ln(sigma / alpha), plain and ancestral."""

from __future__ import annotations

import numpy as np

from pcm_jax import checks
from pcm_jax.schedules import Schedule
from pcm_jax.solvers.build import build
from pcm_jax.solvers.clip import Clip
from pcm_jax.solvers.grid import Grid, Steps, make_grid
from pcm_jax.solvers.table import Solver
from pcm_jax.types import PredictionType


def dpm2(
    schedule: Schedule,
    num_steps: int,
    *,
    ancestral: bool = False,
    prediction: PredictionType = "epsilon",
    clip: Clip = None,
    spacing: Steps = None,
    offset: int = 0,
) -> Solver:
    r"""DPM-Solver-2 of Karras et al. on y = x / alpha, s = sigma / alpha: the slope in the middle of a step in ln s.

        u  = y + (s_m - s) (y - D) / s,         s_m = sqrt(s s_d)
        y' = y + (s_d - s) (u - D_m) / s_m + s_u z

    s_d = s', s_u = 0; `ancestral`: s_u^2 = s'^2 (s^2 - s'^2) / s^2, s_d^2 = s'^2 - s_u^2. Each of the two calls has a
    row, y eliminated from the second. The last step is Euler's to s = 0: 2 num_steps - 1 rows. Arguments as for `ddim`.
    References: arXiv 2206.00927, algorithm 1 with r_1 = 1/2; k-diffusion's `sample_dpm_2`, `sample_dpm_2_ancestral`.
    """
    checks.flag("ancestral", ancestral)
    grid = make_grid(schedule, num_steps, spacing, offset)
    if grid.sigma[-1] != 0 and num_steps > 1:
        raise ValueError("dpm2 ends with Euler's step to sigma = 0; take a grid that ends there")
    if np.any(grid.alpha == 0):
        raise ValueError("dpm2 steps in x / alpha, and the first state of this grid has alpha = 0; start later")
    s = grid.sigma / grid.alpha
    up = np.zeros(num_steps)
    if ancestral:
        up = s[1:] * np.sqrt(1 - (s[1:] / s[:-1]) ** 2)
    down = np.sqrt(s[1:] ** 2 - up**2)
    middle = np.sqrt(s[:-1] * down)[:-1]
    time = np.asarray(schedule.time_at(middle))
    alpha_m, sigma_m = (np.asarray(value, np.float64) for value in schedule.marginals(time))
    rows = Grid(
        schedule,
        _interleave(grid.time, time),
        np.append(_interleave(grid.alpha[:-1], alpha_m), grid.alpha[-1]),
        np.append(_interleave(grid.sigma[:-1], sigma_m), grid.sigma[-1]),
        start_scale=grid.start_scale,
    )
    start, end = s[:-1][:-1], down[:-1]
    # In y: u = y + g (y - D), so y = (u + g D) / (1 + g), and y' = y + r (u - D_m).
    g, r = middle / start - 1, (end - start) / middle
    y_from, y_to = rows.alpha[:-1], rows.alpha[1:]
    first = np.append(1 + g, 0.0)
    a = _interleave(first, 1 / (1 + g) + r) * y_to / y_from
    b = _interleave(np.append(-g, 1.0), -r) * y_to
    kept = _interleave(np.zeros(num_steps), g / (1 + g)) * y_to
    c = _interleave(np.zeros(num_steps), up[:-1]) * y_to
    unit = np.repeat(grid.ancestral_variance, 2)[:-1]
    name = f"dpm2_ancestral-{num_steps}" if ancestral else f"dpm2-{num_steps}"
    return build(name, rows, prediction, clip, a=a, b=b, history={1: kept}, c=c, variance=unit)


def _interleave(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """first[0], second[0], first[1], ..; `first` is longer by one."""
    both = np.empty(len(first) + len(second))
    both[0::2], both[1::2] = first, second
    return both
