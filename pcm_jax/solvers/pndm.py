"""PNDM: pseudo linear multistep (PLMS), started by Runge-Kutta (PRK) or, as Stable Diffusion does, by one Heun step."""

from __future__ import annotations

import numpy as np

from pcm_jax import checks
from pcm_jax.schedules import VP
from pcm_jax.solvers.build import build
from pcm_jax.solvers.forms import Form, Rows, X, said
from pcm_jax.solvers.grid import Grid
from pcm_jax.solvers.table import Solver
from pcm_jax.types import PredictionType

_ADAMS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
_KUTTA = (1 / 6, 1 / 3, 1 / 3, 1 / 6)
_STARTS = 3
"""Runge-Kutta steps of four calls before the multistep method has its history."""


def pndm(
    schedule: VP,
    num_steps: int,
    *,
    skip_prk_steps: bool = True,
    prediction: PredictionType = "epsilon",
    spacing: str | None = None,
    offset: int = 0,
    stride: int | None = None,
) -> Solver:
    r"""DDIM's step with Adams-Bashforth's combination of the last four network outputs e_j in place of one.

        x' = phi(x, e, t, t') = alpha'/alpha x + (sigma' - alpha'/alpha sigma) eps(e)       (DDIM)
        e  = (55 e_0 - 59 e_1 + 37 e_2 - 9 e_3) / 24

    The first steps: three Runge-Kutta steps of four calls each (num_steps + 9 rows), or `skip_prk_steps`, where the
    first step is done again with the mean of its two ends' outputs and the next ones have orders 2 and 3
    (num_steps + 1 rows): Stable Diffusion's PLMS.

    Args:
        schedule: a VP schedule, whose training indices the method steps along.
        num_steps: steps from noise to data; at least 4 with Runge-Kutta steps.
        prediction: epsilon, v or data: the outputs are averaged as they are.
        spacing, offset: of the times, as for `ddim`.
        stride: every step is computed for t - stride in place of the next time; diffusers does so, with
            num_train_steps // num_steps, which on `linspace` and most `trailing` grids is another time.

    Reference: arXiv 2202.09778, algorithm 2, equations 11 to 13.
    """
    checks.flag("skip_prk_steps", skip_prk_steps)
    least = 1 if skip_prk_steps else _STARTS + 1
    if not isinstance(schedule, VP):
        raise ValueError(f"pndm steps along the training indices of a VP schedule, got {type(schedule).__name__}")
    if isinstance(num_steps, bool) or not isinstance(num_steps, (int, np.integer)) or num_steps < least:
        raise ValueError(f"pndm needs num_steps of at least {least} here, got {num_steps!r}")
    if prediction not in ("epsilon", "v", "data"):
        raise ValueError(f"pndm averages epsilon, v or data predictions, got prediction={prediction!r}")
    times = schedule.times(num_steps, spacing or schedule.spacing, offset)  # type: ignore[arg-type]
    levels = _Levels(schedule, times, prediction, stride)
    rows, at = Rows(), list[float]()
    if skip_prk_steps:
        ends = levels.move(X, said(0), times[0], levels.after(0))
        rows.add(X, ends)
        at, heads, first = [times[0]], [0], 1
    if skip_prk_steps and num_steps > 1:
        mean = 0.5 * (said(0) + said(1))
        start = times[0] if stride is None else times[1] + stride
        again = levels.move(X, mean, start, times[1])
        rows.add(ends, again)
        at.append(times[1])
    if not skip_prk_steps:
        first, heads = _STARTS, []
        for index in range(_STARTS):
            at += _runge_kutta(levels, rows, index)
            heads.append(len(rows) - len(_KUTTA))
    for index in range(first, num_steps):
        heads = [*heads, len(rows)][-4:]
        weights = _ADAMS[len(heads) - 1]
        combined = Form()
        for weight, head in zip(weights, reversed(heads), strict=True):
            combined = combined + weight * said(head)
        rows.add(X, levels.move(X, combined, times[index], levels.after(index)))
        at.append(times[index])
    a, b, history = rows.columns()
    marginals = np.array([levels(time) for time in [*at, None]]).T
    grid = Grid(schedule, np.array(at), *marginals)
    return build(f"pndm-{num_steps}", grid, prediction, None, a=a, b=b, history=history, memory="output",
                 variance=_injected(grid))  # fmt: skip


def _injected(grid: Grid) -> np.ndarray:
    """Two calls at one time, and Runge-Kutta's steps back, have no ancestral variance: the nearest row's that has."""
    found = grid.ancestral_variance
    return np.where(found > 0, found, np.min(found[found > 0], initial=1.0))


class _Levels:
    """Marginals by time, None for the last state, and DDIM's step between them."""

    def __init__(self, schedule: VP, times: np.ndarray, prediction: str, stride: int | None) -> None:
        self.schedule, self.times, self.prediction, self.stride = schedule, times, prediction, stride

    def __call__(self, time: float | None) -> tuple[float, float]:
        if time is None or time < 0:
            return self.schedule.final
        alpha, sigma = self.schedule.marginals(np.asarray(time, np.float64))
        return float(alpha), float(sigma)

    def after(self, index: int) -> float | None:
        """The time that step `index` goes to."""
        if self.stride is not None:
            return float(self.times[index]) - self.stride
        return float(self.times[index + 1]) if index + 1 < len(self.times) else None

    def half(self, index: int) -> tuple[float, float]:
        """Twice the time in the middle of step `index`, as its first and its second call name it."""
        if self.stride is None:
            middle = float(self.times[index] + self.times[index + 1]) / 2
            return middle, middle
        half = self.stride // 2
        return float(self.times[index]) - half, float(self.times[index + 1]) + half

    def move(self, x: Form, output: Form, start: float | None, end: float | None) -> Form:
        """phi: x and outputs are forms."""
        alpha, sigma = self(start)
        alpha_next, sigma_next = self(end)
        ratio = alpha_next / alpha
        gain = sigma_next - ratio * sigma
        # eps as a combination of the state and of the output, at the time that the step starts from.
        from_x, from_output = {
            "epsilon": (0.0, 1.0),
            "v": (sigma, alpha),
            "data": (1 / sigma, -alpha / sigma),
        }[self.prediction]
        return (ratio + gain * from_x) * x + (gain * from_output) * output


def _runge_kutta(levels: _Levels, rows: Rows, index: int) -> list[float]:
    """Adds the four rows of a step, and returns their times."""
    head, start = len(rows), levels.times[index]
    end = float(levels.times[index + 1])
    first, second = levels.half(index)
    last = second - levels.stride // 2 if levels.stride is not None else end
    one = levels.move(X, said(head), start, first)
    two = levels.move(X, said(head + 1), start, second)
    three = levels.move(X, said(head + 2), start, last)
    combined = Form()
    for call, weight in enumerate(_KUTTA):
        combined = combined + weight * said(head + call)
    four = levels.move(X, combined, start, end)
    for state, following in zip((X, one, two, three), (one, two, three, four), strict=True):
        rows.add(state, following)
    return [float(start), second, second, end]
