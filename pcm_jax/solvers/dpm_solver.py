"""DPM-Solver and DPM-Solver++: exponential multistep methods in lambda = ln(alpha / sigma), and their SDE variants."""

from __future__ import annotations

from typing import Literal

import numpy as np

from pcm_jax import checks
from pcm_jax.schedules import Schedule
from pcm_jax.solvers.build import build
from pcm_jax.solvers.clip import Clip
from pcm_jax.solvers.grid import Steps, make_grid
from pcm_jax.solvers.table import Solver
from pcm_jax.types import PredictionType


def dpm_solver_pp(
    schedule: Schedule,
    num_steps: int,
    *,
    order: Literal[1, 2, 3] = 2,
    kind: Literal["midpoint", "heun"] = "midpoint",
    integrates: Literal["data", "noise"] = "data",
    sde: bool = False,
    prediction: PredictionType = "epsilon",
    clip: Clip = None,
    spacing: Steps = None,
    offset: int = 0,
    lower_order_final: bool | None = None,
    first_order_last: bool | None = None,
) -> Solver:
    r"""DPM-Solver++ of order 1, 2 (2M) or 3 (3M): exponential integrals of a polynomial through the last predictions.

        x' = sigma'/sigma e^{-q} x + alpha' (E_0 f + E_1 f' + E_2 f'' / 4) + sigma' sqrt(1 - e^{-2q}) z
        E_k = int_0^h e^{-g (h - l)} g l^k dl,   h = lambda' - lambda,   q = 0, g = 1 (ODE) or q = h, g = 2 (SDE)

    f is the data prediction; f' and f'' are differences of the last two or three, backwards in lambda. `kind` is for
    order 2: the exact integral ("heun"), or E_1 = h E_0 / 2 ("midpoint"). Order 3 takes the exact one, and f'' / 4 as
    the authors' code has it, where the integral has f'' / 2: it converges with order 2, at a third of 2M's error.
    `integrates="noise"` is DPM-Solver, the same in the noise prediction, with alpha and sigma exchanged and -h for h.
    An order that has too little history, at the first steps, is lowered.

    Args:
        schedule, num_steps, prediction, clip, spacing, offset: as for `ddim`. The `leading` and `linspace` grids have
            num_steps + 1 points of which the last is left out, the method's own convention.
        order, kind, integrates: as above.
        sde: the reverse SDE instead of the probability-flow ODE: noise in every step.
        lower_order_final: the last step is of order 1 and the one before it of order 2 at most. Default: fewer than 15
            steps, as the authors advise.
        first_order_last: the last step alone is of order 1; always so where it goes to sigma = 0.

    References: arXiv 2211.01095, algorithm 2 and equations 14 and 18; arXiv 2206.00927, proposition 3.2.
    """
    checks.whole("order", order, 1, 3)
    checks.flag("sde", sde)
    for name, value in (("lower_order_final", lower_order_final), ("first_order_last", first_order_last)):
        if value is not None:
            checks.flag(name, value)
    if kind not in ("midpoint", "heun"):
        raise ValueError(f"unknown kind {kind!r}; choose midpoint or heun")
    if integrates not in ("data", "noise"):
        raise ValueError(f"unknown integrates {integrates!r}; choose data or noise")
    grid = make_grid(schedule, num_steps, spacing, offset, extra=1)
    if integrates == "noise" and grid.sigma[-1] == 0:
        raise ValueError(
            "DPM-Solver in the noise prediction cannot step to sigma = 0; take a grid that ends above it, or "
            "integrates='data'"
        )
    alpha, sigma, alpha_next, sigma_next = grid.pairs()
    log_snr = grid.log_snr
    h = np.diff(log_snr)
    lower = num_steps < 15 if lower_order_final is None else lower_order_final
    orders = np.minimum(order, np.arange(num_steps) + 1)
    if lower or first_order_last or grid.sigma[-1] == 0:
        orders[-1] = 1
    if lower and num_steps > 1:
        orders[-2] = min(orders[-2], 2)
    growth = 2.0 if sde else 1.0
    with np.errstate(over="ignore"):
        if integrates == "data":
            a, scale, signed = sigma_next / sigma * (np.exp(-h) if sde else 1.0), alpha_next, -growth * h
            c = sigma_next * np.sqrt(-np.expm1(-2 * h))
        else:
            a, scale, signed = alpha_next / alpha, -growth * sigma_next, h
            c = sigma_next * np.sqrt(np.expm1(2 * h))
    weights = np.zeros((3, num_steps))
    for row in range(num_steps):
        weights[: orders[row], row] = _weights(log_snr, row, int(orders[row]), signed[row], kind)
    # To sigma = 0 the integral is 1, to the state's own alpha' x_0.
    if integrates == "data":
        weights *= -1.0
    b, *earlier = scale * weights
    name = f"dpm_solver_pp-{num_steps}" if order == 2 else f"dpm_solver_pp{order}-{num_steps}"
    history = {1: earlier[0], 2: earlier[1]}
    c = c if sde else np.zeros_like(c)
    return build(name, grid, prediction, clip, a=a, b=b, history=history, c=c, memory=integrates)


def _weights(log_snr: np.ndarray, row: int, order: int, signed: float, kind: str) -> np.ndarray:
    """Weights of the last `order` predictions, newest first: of (e^signed - 1) f and the integrals of differences."""
    full = np.expm1(signed)
    if order == 1:
        return np.array([full])
    h = log_snr[row + 1] - log_snr[row]
    r0 = (log_snr[row] - log_snr[row - 1]) / h if h else np.inf
    if not np.isfinite(r0):
        # The first interval starts at lambda = -inf on rectified flow, where the history has no weight; some grids of
        # diffusers end on a level twice.
        return np.append(full, np.zeros(order - 1))
    exact = full / signed - 1.0
    first = np.array([1.0, -1.0, 0.0]) / r0
    if order == 2:
        return full * np.array([1.0, 0.0]) + (0.5 * full if kind == "midpoint" else exact) * first[:2]
    r1 = (log_snr[row - 1] - log_snr[row - 2]) / h
    if not np.isfinite(r1):
        return full * np.array([1.0, 0.0, 0.0]) + exact * first
    before = np.array([0.0, 1.0, -1.0]) / r1
    slope = first + r0 / (r0 + r1) * (first - before)
    curve = (first - before) / (r0 + r1)
    return full * np.array([1.0, 0.0, 0.0]) + exact * slope + ((full - signed) / signed**2 - 0.5) * curve
