"""Heun's method (EDM's deterministic sampler), one table row for each of its network calls."""

from __future__ import annotations

import numpy as np

from pcm_jax.schedules import Schedule
from pcm_jax.solvers.build import build
from pcm_jax.solvers.clip import Clip
from pcm_jax.solvers.flow import straight
from pcm_jax.solvers.grid import Steps, make_grid
from pcm_jax.solvers.table import Solver
from pcm_jax.types import PredictionType


def heun(
    schedule: Schedule,
    num_steps: int,
    *,
    prediction: PredictionType = "epsilon",
    clip: Clip = None,
    spacing: Steps = None,
    offset: int = 0,
) -> Solver:
    r"""Heun's second-order method on dx / dsigma = (x - x_0) / sigma, in x / alpha and sigma / alpha on VP.

        predictor   y  = x + h (x - D) / sigma                                h = sigma' - sigma,  D = x_0(x, sigma)
        corrector   x' = x + h/2 ((x - D) / sigma + (y - D') / sigma')        D' = x_0(y, sigma')
                       = y + h / (2 sigma') (D - D')

    The second form of the corrector needs only the predictor's state and the two data predictions: it is a
    multistep row, so both samplers run it unchanged. The last step is Euler's (it goes to sigma = 0, where no network
    was trained), so a `num_steps`-step table has 2 num_steps - 1 rows.
    Reference: arXiv 2206.00364, algorithm 1.
    """
    grid = make_grid(schedule, num_steps, spacing, offset)
    scale = np.ones_like(grid.alpha) if straight(grid) else grid.alpha
    s = grid.sigma / scale
    # Rows: predictor 0, corrector 0, predictor 1, .., predictor T-1. Row r is of step[r] and evaluates state at[r].
    step = np.arange(2 * num_steps - 1) // 2
    corrects = np.arange(2 * num_steps - 1) % 2 == 1
    at = step + corrects
    rows = grid.rows(at)
    gain = scale[step + 1] * (s[step + 1] - s[step]) / (2 * np.where(corrects, s[step + 1], 1.0))
    ratio = grid.sigma[step + 1] / grid.sigma[step]
    return build(
        f"heun-{num_steps}",
        rows,
        prediction,
        clip,
        a=np.where(corrects, 1.0, ratio),
        b=np.where(corrects, -gain, grid.alpha[step + 1] - grid.alpha[step] * ratio),
        history={1: np.where(corrects, gain, 0.0)},
        variance=grid.ancestral_variance[step],
    )
