"""Solvers as data: tables of one-step maps, one row for each network call."""

import inspect
from collections.abc import Callable
from typing import Any

from pcm_jax.schedules import Schedule
from pcm_jax.solvers.adams import deis, lms
from pcm_jax.solvers.clip import Clip, dynamic_threshold
from pcm_jax.solvers.ddim import ddim, euler_ancestral
from pcm_jax.solvers.ddpm import ddpm
from pcm_jax.solvers.dpm2 import dpm2
from pcm_jax.solvers.dpm_solver import dpm_solver_pp
from pcm_jax.solvers.edm import alphafold3, edm_stochastic
from pcm_jax.solvers.flow import euler
from pcm_jax.solvers.grid import Grid
from pcm_jax.solvers.heun import heun
from pcm_jax.solvers.pndm import pndm
from pcm_jax.solvers.table import Solver
from pcm_jax.solvers.unipc import unipc

__all__ = [
    "Clip",
    "Grid",
    "Solver",
    "alphafold3",
    "by_name",
    "ddim",
    "ddpm",
    "deis",
    "dpm2",
    "dpm_solver_pp",
    "dynamic_threshold",
    "edm_stochastic",
    "euler",
    "euler_ancestral",
    "heun",
    "lms",
    "pndm",
    "unipc",
]

_BY_NAME: dict[str, Callable[..., Solver]] = {
    "ddim": ddim,
    "ddpm": ddpm,
    "deis": deis,
    "dpm2": dpm2,
    "dpm_solver_pp": dpm_solver_pp,
    "edm_stochastic": edm_stochastic,
    "euler": euler,
    "euler_ancestral": euler_ancestral,
    "heun": heun,
    "lms": lms,
    "pndm": pndm,
    "unipc": unipc,
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
