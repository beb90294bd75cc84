"""DDPM ancestral sampling."""

from __future__ import annotations

from typing import Literal

import numpy as np

from pcm_jax.schedules import Schedule
from pcm_jax.solvers.build import build
from pcm_jax.solvers.clip import Clip
from pcm_jax.solvers.grid import Steps, make_grid
from pcm_jax.solvers.table import Solver
from pcm_jax.types import PredictionType


def ddpm(
    schedule: Schedule,
    num_steps: int,
    *,
    variance: Literal["fixed_small", "fixed_large"] = "fixed_small",
    prediction: PredictionType = "epsilon",
    clip: Clip = None,
    spacing: Steps = None,
    offset: int = 0,
) -> Solver:
    r"""Mean of the posterior q(x' | x, x_0) plus noise; none is added by the last step.

        x' = alpha' x_0 + sqrt(sigma'^2 - v) (x - alpha x_0) / sigma + s z,   v = Var[x' | x, x_0]

    `variance`: s^2 = v (fixed_small) or Var[x | x'], DDPM's beta (fixed_large).
    Reference: arXiv 2006.11239, equations 7 and 11, section 3.2.
    """
    grid = make_grid(schedule, num_steps, spacing, offset)
    alpha, sigma, alpha_next, sigma_next = grid.pairs()
    small = grid.ancestral_variance
    if variance == "fixed_small":
        injected = small.copy()
    elif variance == "fixed_large":
        injected = grid.transition_variance.copy()
    else:
        raise ValueError(f"unknown variance {variance!r}; choose fixed_small or fixed_large")
    injected[-1] = 0.0
    a = np.sqrt(sigma_next**2 - small) / sigma
    return build(f"ddpm-{num_steps}", grid, prediction, clip, a=a, b=alpha_next - alpha * a, c=np.sqrt(injected))
