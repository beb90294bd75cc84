"""Adams-Bashforth methods on x / alpha with variable steps: LMS in sigma / alpha, DEIS in its logarithm."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pcm_jax import checks
from pcm_jax.schedules import Schedule
from pcm_jax.solvers.build import build
from pcm_jax.solvers.clip import Clip
from pcm_jax.solvers.grid import Grid, Steps, make_grid
from pcm_jax.solvers.table import Solver
from pcm_jax.types import PredictionType


def lms(
    schedule: Schedule,
    num_steps: int,
    *,
    order: int = 4,
    prediction: PredictionType = "epsilon",
    clip: Clip = None,
    spacing: Steps = None,
    offset: int = 0,
) -> Solver:
    r"""Linear multistep: eps is a polynomial in s = sigma / alpha through its last `order` values.

        x' / alpha' = x / alpha + sum_j c_j eps_{i-j},   c_j = int_s^{s'} prod_{k != j} (t - s_k) / (s_j - s_k) dt

    Adams-Bashforth's method for any grid; the first steps have lower orders. Arguments as for `ddim`.
    Reference: `sample_lms` of k-diffusion; Hairer, Norsett and Wanner, Solving ODEs I, section III.5.
    """
    grid = make_grid(schedule, num_steps, spacing, offset)
    orders = np.minimum(_checked(order), np.arange(num_steps) + 1)
    return _table(f"lms-{num_steps}", grid, prediction, clip, orders, lambda s: s)


def deis(
    schedule: Schedule,
    num_steps: int,
    *,
    order: int = 2,
    prediction: PredictionType = "epsilon",
    clip: Clip = None,
    spacing: Steps = None,
    offset: int = 0,
    lower_order_final: bool | None = None,
) -> Solver:
    r"""DEIS, log-rho: as `lms` with a polynomial in ln s.

        c_j = int_s^{s'} prod_{k != j} (ln t - ln s_k) / (ln s_j - ln s_k) dt

    Args:
        schedule, num_steps, prediction, clip, spacing, offset, lower_order_final: as for `dpm_solver_pp`.
        order: 1 is DDIM. A step to s' = 0 is of order 1.

    Reference: arXiv 2204.13902, section 3.3 and appendix H (rho-AB-DEIS with log rho).
    """
    grid = make_grid(schedule, num_steps, spacing, offset, extra=1)
    orders = np.minimum(_checked(order), np.arange(num_steps) + 1)
    if lower_order_final is not None:
        checks.flag("lower_order_final", lower_order_final)
    lower = num_steps < 15 if lower_order_final is None else lower_order_final
    if lower or grid.sigma[-1] == 0:
        orders[-1] = 1
    if lower and num_steps > 1:
        orders[-2] = min(orders[-2], 2)
    return _table(f"deis-{num_steps}", grid, prediction, clip, orders, np.log)


def _checked(order: int) -> int:
    if isinstance(order, bool) or not isinstance(order, int) or not 1 <= order <= 4:
        raise ValueError(f"order must be 1, 2, 3 or 4, got {order!r}")
    return order


def _table(
    name: str,
    grid: Grid,
    prediction: PredictionType,
    clip: Clip,
    orders: np.ndarray,
    variable: Callable[[np.ndarray], np.ndarray],
) -> Solver:
    alpha, _, alpha_next, _ = grid.pairs()
    if np.any(alpha == 0):
        raise ValueError(
            f"{name} steps in x / alpha, and the first state of this grid has alpha = 0; start later, or take "
            "dpm_solver_pp"
        )
    s = grid.sigma / grid.alpha
    weights = np.zeros((int(orders.max()), len(grid)))
    for row, order in enumerate(orders):
        for j in range(order):
            weights[j, row] = _integral(s, row, j, int(order), variable)
    b, *earlier = alpha_next * weights
    history = {lag: column for lag, column in enumerate(earlier, start=1)}
    return build(name, grid, prediction, clip, a=alpha_next / alpha, b=b, history=history, memory="noise")


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)
"""Exact for `lms`; to round-off for `deis`, whose integrand is a polynomial in ln t with t running over a step."""


def _integral(s: np.ndarray, row: int, j: int, order: int, variable: Callable[[np.ndarray], np.ndarray]) -> float:
    """c_j of a row."""
    if order == 1:
        return float(s[row + 1] - s[row])
    # In ln t, where an interval of many orders of magnitude is smooth, unless it ends at 0.
    logarithmic = s[row + 1] > 0
    ends = np.log(s[row : row + 2]) if logarithmic else s[row : row + 2]
    half = (ends[1] - ends[0]) / 2
    point = ends[0] + half * (1 + _NODES)
    t, jacobian = (np.exp(point), np.exp(point)) if logarithmic else (point, np.ones_like(point))
    v, nodes = variable(t), variable(s[row - order + 1 : row + 1][::-1])
    product = np.ones_like(v)
    for k in range(order):
        if k != j:
            product *= (v - nodes[k]) / (nodes[j] - nodes[k])
    return float(half * np.sum(_WEIGHTS * jacobian * product))
