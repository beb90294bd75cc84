"""UniPC: a predictor and a corrector that share one network call."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal

import numpy as np

from pcm_jax import checks
from pcm_jax.schedules import Schedule
from pcm_jax.solvers.build import build
from pcm_jax.solvers.clip import Clip
from pcm_jax.solvers.forms import Form, Rows, X, said
from pcm_jax.solvers.grid import Grid, Steps, make_grid
from pcm_jax.solvers.table import Solver
from pcm_jax.types import PredictionType


def unipc(
    schedule: Schedule,
    num_steps: int,
    *,
    order: int = 2,
    kind: Literal["bh1", "bh2"] = "bh2",
    integrates: Literal["data", "noise"] = "data",
    prediction: PredictionType = "epsilon",
    clip: Clip = None,
    spacing: Steps = None,
    offset: int = 0,
    lower_order_final: bool = True,
    uncorrected: Collection[int] = (),
) -> Solver:
    r"""UniPC of order p: UniP-p predicts the state, the network is called there, UniC-p corrects the state with it.

        predictor   y'  = sigma'/sigma x + alpha' ((1 - e^{-h}) f + B sum_{m<p} rho_m (f_m - f) / r_m)
        corrector   x'  = y' with rho of p points, and alpha' B rho_p (f' - f) more

    f is the data prediction at y, f_m the m-th before it, f' the one at y', r_m = (lambda_m - lambda) / h; B = h (bh1)
    or 1 - e^{-h} (bh2), and rho solves the order conditions sum_m rho_m r_m^{n-1} = n! phi_{n+1} / B. A corrected state
    is a combination of the predicted one and of predictions: it is eliminated, and a row is one network call.
    `integrates="noise"` is the same in the noise prediction, alpha and sigma exchanged and -h for h.

    Args:
        schedule, num_steps, prediction, clip, spacing, offset: as for `dpm_solver_pp`.
        order: p; the first steps have lower orders, as far as there is history.
        lower_order_final: and the last steps, step T - k of order k at most.
        uncorrected: states, 1 .. T - 1, whose corrector is left out: late ones where guidance is large.

    Reference: arXiv 2302.04867, algorithms 5 and 6, appendix B.
    """
    if isinstance(order, bool) or not isinstance(order, int) or not 1 <= order <= 6:
        raise ValueError(f"order must lie in 1..6, got {order!r}; the paper's are 1 to 3")
    if kind not in ("bh1", "bh2"):
        raise ValueError(f"unknown kind {kind!r}; choose bh1 or bh2")
    if integrates not in ("data", "noise"):
        raise ValueError(f"unknown integrates {integrates!r}; choose data or noise")
    checks.flag("lower_order_final", lower_order_final)
    grid = make_grid(schedule, num_steps, spacing, offset, extra=1)
    if not isinstance(uncorrected, Collection) or isinstance(uncorrected, str):
        raise ValueError(f"uncorrected must be a collection of states, 1 .. T - 1, got {checks.shown(uncorrected)}")
    for each in uncorrected:
        checks.whole("uncorrected", each, 0, hint="states whose corrector is left out")
    rows, state, before = Rows(), X, 0
    for row in range(num_steps):
        corrected = state
        if row and row not in uncorrected:
            corrected = _step(grid, row - 1, before, kind, integrates, row)
        left = num_steps - row if lower_order_final else order
        before = min(order, left, row + 1)
        step = _step(grid, row, before, kind, integrates, None)
        # step is a form in the corrected state; that one and the row's own are forms in the corrected state before.
        rows.add(state, step.scale * corrected + Form(0.0, step.terms))
        state = step
    a, b, history = rows.columns()
    name = f"unipc-{num_steps}" if order == 2 else f"unipc{order}-{num_steps}"
    return build(name, grid, prediction, clip, a=a, b=b, history=history, memory=integrates)


def _step(grid: Grid, row: int, order: int, kind: str, integrates: str, corrects: int | None) -> Form:
    """The state after `row` as a form in the corrected state of `row`; corrects: the row of its prediction f'."""
    snr = grid.log_snr
    alpha, sigma, alpha_next, sigma_next = (column[row] for column in grid.pairs())
    h = snr[row + 1] - snr[row]
    data = integrates == "data"
    signed = -h if data else h
    ratio, scale = (sigma_next / sigma, alpha_next) if data else (alpha_next / alpha, sigma_next)
    full = float(np.expm1(signed))
    gain = signed if kind == "bh1" else full
    points = [(snr[row - m] - snr[row]) / h for m in range(1, order)]
    others = [row - m for m in range(1, order)]
    if corrects is not None:
        points, others = [*points, 1.0], [*others, corrects]
    change = Form()
    for point, other, rho in zip(points, others, _rho(points, signed, gain), strict=True):
        if math.isfinite(point):  # lambda = -inf in the first state of rectified flow: no weight
            change = change + (rho / point) * (said(other) - said(row))
    weights = full * said(row) + (gain * change if points else Form())
    return ratio * X - scale * weights


def _rho(points: list[float], signed: float, gain: float) -> np.ndarray:
    """Weights of the order conditions; for a single point 1/2, the paper's choice, exact to second order."""
    size = len(points)
    if size <= 1:
        return np.full(size, 0.5)
    phi, wanted = np.expm1(signed) / signed - 1.0, []
    for n in range(1, size + 1):
        wanted.append(phi * math.factorial(n) / gain)
        phi = phi / signed - 1.0 / math.factorial(n + 1)
    powers = np.array([[point ** (n - 1) for point in points] for n in range(1, size + 1)])
    return np.linalg.solve(powers, np.array(wanted))
