"""DPM-Solver++ 2M."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pcm_jax.schedules import Schedule
from pcm_jax.solvers.table import Clip, Solver, build, make_grid
from pcm_jax.types import PredictionType, Spacing


def dpm_solver_pp(
    schedule: Schedule,
    num_steps: int,
    *,
    prediction: PredictionType = "epsilon",
    clip: Clip = None,
    spacing: Spacing | Sequence[float] | None = None,
    offset: int = 0,
    lower_order_final: bool | None = None,
) -> Solver:
    r"""DPM-Solver++ 2M, second-order multistep in the data prediction (midpoint form).

        x' = sigma'/sigma x + alpha' (1 - e^{-h}) ((1 + 1/2r) x_0 - 1/2r x_0^{prev}),
        h = lambda' - lambda,   r = h_prev / h,   lambda = ln(alpha / sigma)

    First order at the first step, at a last step to sigma = 0, and at every last step if `lower_order_final`
    (default: fewer than 15 steps, as the authors advise). The `leading` and `linspace` grids have num_steps + 1
    points of which the last is left out, the method's own convention.
    Reference: arXiv 2211.01095, algorithm 2.
    """
    spacing = schedule.spacing if spacing is None else spacing
    extra = int(isinstance(spacing, str) and spacing in ("leading", "linspace"))
    grid = make_grid(schedule, num_steps, spacing, offset, extra)
    alpha, sigma, alpha_next, sigma_next = grid.pairs()
    with np.errstate(divide="ignore"):
        log_snr = np.log(grid.alpha) - np.log(grid.sigma)
    h = np.diff(log_snr)
    lower_order_final = num_steps < 15 if lower_order_final is None else lower_order_final
    second = np.arange(num_steps) > 0
    if lower_order_final or grid.sigma[-1] == 0:
        second[-1] = False
    half = np.zeros(num_steps)
    # 1 / 2r; the first interval starts at lambda = -inf on rectified flow, where the history has no weight.
    half[second] = h[second] / (2 * h[np.flatnonzero(second) - 1])
    full = alpha_next - alpha * sigma_next / sigma
    name = f"dpm_solver_pp-{num_steps}"
    return build(name, grid, prediction, clip, a=sigma_next / sigma, b=full * (1 + half), b_prev=-full * half)
