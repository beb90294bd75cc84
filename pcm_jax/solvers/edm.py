"""EDM's stochastic samplers: noise is raised before every call and taken out by a step of Euler or Heun."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from pcm_jax import checks
from pcm_jax.schedules import EDM, Schedule
from pcm_jax.solvers.build import build
from pcm_jax.solvers.clip import Clip
from pcm_jax.solvers.grid import Grid, Steps, make_grid
from pcm_jax.solvers.table import Solver
from pcm_jax.types import PredictionType


def edm_stochastic(
    schedule: Schedule,
    num_steps: int,
    *,
    order: Literal[1, 2] = 2,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = float("inf"),
    s_noise: float = 1.0,
    gamma: Sequence[float] | np.ndarray | None = None,
    step_scale: float = 1.0,
    prediction: PredictionType = "edm",
    clip: Clip = None,
    spacing: Steps = None,
    offset: int = 0,
) -> Solver:
    r"""EDM's algorithm 2, for schedules with alpha = 1.

        x^ = x + S_noise sqrt(t^2 - sigma^2) z,   t = (1 + gamma) sigma,   gamma = min(S_churn / T, sqrt 2 - 1)
        x' = x^ + eta (sigma' - t) (x^ - D) / t,  D = x_0(x^, t)       (Euler; order 2 corrects it as `heun` does)

    gamma = 0 where sigma is outside [S_tmin, S_tmax]. A row's state is x^, which its network sees: a step adds its own
    noise and the next one's. The first x^ is S_noise sqrt(t^2 - sigma^2) z above noise of deviation sigma, which is
    noise again: the sampler's noise is that of x^ in units of `start_scale`.

    Args:
        schedule: `edm()`.
        num_steps: T; order 2 has 2 T - 1 rows where the last step goes to sigma = 0, else 2 T.
        order: 1, Euler, or 2, Heun.
        s_churn, s_tmin, s_tmax, s_noise: as above; EDM's for ImageNet-64 are 40, 0.05, 50 and 1.003.
        gamma: of every step, in place of S_churn's.
        step_scale: eta, 1.5 in AlphaFold 3; order 1 alone.
        prediction, clip, spacing, offset: as for `ddim`.

    Reference: arXiv 2206.00364, algorithm 2 and table 5.
    """
    grid = make_grid(schedule, num_steps, spacing, offset)
    if not np.allclose(grid.alpha, 1.0):
        raise ValueError("edm_stochastic raises noise beyond the schedule's, which needs edm(), where alpha = 1")
    checks.whole("order", order, 1, 2, "1 is Euler, 2 is Heun")
    checks.number("s_churn", s_churn, 0)
    checks.number("s_tmin", s_tmin, 0)
    if s_tmax != float("inf"):
        checks.number("s_tmax", s_tmax, 0, above=True)
    checks.number("s_noise", s_noise, 0, above=True)
    checks.number("step_scale", step_scale, 0, above=True)
    if order == 2 and step_scale != 1.0:
        raise ValueError("step_scale belongs to Euler's step; use it with order=1")
    sigma, target = grid.sigma[:-1], grid.sigma[1:]
    raised = _gamma(sigma, num_steps, s_churn, s_tmin, s_tmax) if gamma is None else np.asarray(gamma, np.float64)
    if raised.shape != sigma.shape or np.any(raised < 0):
        raise ValueError(f"gamma must be {num_steps} numbers of at least 0, got {raised.tolist()}")
    t = (1 + raised) * sigma
    added = s_noise * np.sqrt(t**2 - sigma**2)
    # A step's own row adds what the next call sees on top of sigma'.
    c = np.append(added[1:], 0.0)
    ratio = (target - t) / t
    start = float(np.sqrt(sigma[0] ** 2 + added[0] ** 2))
    name = f"edm_stochastic{order}-{num_steps}"
    if order == 1:
        rows = _rows(schedule, np.append(t, target[-1]), start)
        a, b = 1 + step_scale * ratio, -step_scale * ratio
        return build(name, rows, prediction, clip, a=a, b=b, c=c, variance=_unit(t, target))
    twice = target > 0
    owner = np.repeat(np.arange(num_steps), 1 + twice)
    corrects = np.append(False, owner[1:] == owner[:-1])
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.where(corrects, (target - t)[owner] / (2 * target[owner]), 0.0)
    rows = _rows(schedule, np.append(np.where(corrects, target[owner], t[owner]), target[-1]), start)
    ends = np.append(owner[1:] != owner[:-1], True)
    return build(
        name,
        rows,
        prediction,
        clip,
        a=np.where(corrects, 1.0, 1 + ratio[owner]),
        b=np.where(corrects, -gain, -ratio[owner]),
        history={1: gain},
        c=np.where(ends, c[owner], 0.0),
        variance=_unit(t, target)[owner],
    )


def alphafold3(num_steps: int = 200, *, step_scale: float = 1.5, clip: Clip = None) -> Solver:
    r"""AlphaFold 3's sampler of atom coordinates, in angstrom.

        c_i = 16 (160^{1/7} + i / T (4e-4^{1/7} - 160^{1/7}))^7, i = 0 .. T
        gamma = 0.8 where c_{i+1} > 1, else 0;  S_noise = 1.003

    The network is EDM's (`prediction="edm"`, sigma_data = 16); its random rotations belong inside the call.
    Reference: Abramson et al., Nature 2024, supplementary algorithm 18 and equation 7.
    """
    checks.whole("num_steps", num_steps)
    data, last = 16.0, np.array([160.0, 4e-4]) ** (1 / 7)
    levels = data * np.linspace(last[0], last[1], num_steps + 1) ** 7
    schedule = EDM(sigma_min=float(levels[-1]), sigma_max=float(levels[0]), sigma_data=data)
    grid = Grid(schedule, np.log(levels[:-1]) / 4, np.ones(num_steps + 1), levels)
    options = {"gamma": np.where(levels[1:] > 1.0, 0.8, 0.0), "s_noise": 1.003, "step_scale": step_scale}
    return edm_stochastic(schedule, num_steps, order=1, spacing=grid, clip=clip, **options)  # type: ignore[arg-type]


def _gamma(sigma: np.ndarray, num_steps: int, s_churn: float, s_tmin: float, s_tmax: float) -> np.ndarray:
    return np.where((sigma >= s_tmin) & (sigma <= s_tmax), min(s_churn / num_steps, np.sqrt(2) - 1), 0.0)


def _rows(schedule: Schedule, levels: np.ndarray, start: float) -> Grid:
    time = np.asarray(schedule.time_at(levels[:-1]))
    return Grid(schedule, time, np.ones_like(levels), levels, start_scale=start)


def _unit(t: np.ndarray, target: np.ndarray) -> np.ndarray:
    """What an ancestral step from t to sigma' injects."""
    return (target / t) ** 2 * (t**2 - target**2)
