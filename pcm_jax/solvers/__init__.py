"""Solvers as data: DDIM, DDPM, DPM-Solver++ 2M, Euler and Heun tables of one-step maps."""

import inspect
from collections.abc import Callable
from typing import Any

from pcm_jax.schedules import Schedule
from pcm_jax.solvers.ddim import ddim
from pcm_jax.solvers.ddpm import ddpm
from pcm_jax.solvers.dpm_solver import dpm_solver_pp
from pcm_jax.solvers.flow import euler
from pcm_jax.solvers.heun import heun
from pcm_jax.solvers.table import Clip, Solver, dynamic_threshold

__all__ = ["Clip", "Solver", "by_name", "ddim", "ddpm", "dpm_solver_pp", "dynamic_threshold", "euler", "heun"]

_BY_NAME: dict[str, Callable[..., Solver]] = {
    "ddim": ddim,
    "ddpm": ddpm,
    "dpm_solver_pp": dpm_solver_pp,
    "euler": euler,
    "heun": heun,
}


def by_name(name: str, schedule: Schedule, num_steps: int, **options: Any) -> Solver:
    """The solver called `name`, for configuration files and command lines: `by_name("ddim", schedule, 50)`."""
    if name not in _BY_NAME:
        raise ValueError(f"unknown solver {name!r}; choose one of {', '.join(_BY_NAME)}")
    known = list(inspect.signature(_BY_NAME[name]).parameters)[2:]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(f"{name} has no option {unknown[0]!r}; it has {', '.join(known)}")
    return _BY_NAME[name](schedule, num_steps, **options)
