"""Each class of diffusers as a call of one of this library's solvers, on the grid that the class steps along."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from pcm_jax import solvers
from pcm_jax.pretrained.diffusers import scheduler_grids as grids
from pcm_jax.schedules import VP, RectifiedFlow
from pcm_jax.solvers import Clip, Grid, Solver
from pcm_jax.types import PredictionType


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """What a file says: the class, the schedule that the model was trained with, and the complete configuration."""

    name: str
    schedule: VP | RectifiedFlow
    prediction: PredictionType
    clip: Clip
    config: dict[str, Any]

    @property
    def table(self) -> np.ndarray:
        """alphas_cumprod, float32."""
        return grids.table_of(self.name, self.config)


@dataclasses.dataclass(frozen=True)
class Wish:
    """What the caller asks for beside the file; see `Scheduler.solver`."""

    corrected: bool
    mu: float | None
    options: dict[str, Any]


def _make(method: Callable[..., Solver], source: Source, grid: Grid, wish: Wish, **own: Any) -> Solver:
    common = {"prediction": source.prediction, "clip": source.clip, "spacing": grid}
    return method(source.schedule, len(grid), **(common | own | wish.options))


def _discrete(source: Source, num_steps: int, last: float) -> Grid:
    """A grid of training indices; last: alphas_cumprod of the last state."""
    time = grids.spaced_times(source.config, num_steps, whole=True)
    products = np.append(source.table[time.astype(int)].astype(np.float64), last)
    return Grid(source.schedule, time, np.sqrt(products), np.sqrt(1 - products))


def _ddim(source: Source, num_steps: int, wish: Wish) -> Solver:
    table, last = source.table.astype(np.float64), source.schedule.final[0] ** 2
    grid = _discrete(source, num_steps, last)
    if not wish.corrected:
        before = grid.time.astype(int) - len(table) // num_steps
        products = np.where(before >= 0, table[np.maximum(before, 0)], last)
        grid = dataclasses.replace(grid, aims=(np.sqrt(products), np.sqrt(1 - products)))
    return _make(solvers.ddim, source, grid, wish, clipped_noise=False)


def _ddpm(source: Source, num_steps: int, wish: Wish) -> Solver:
    grid = _discrete(source, num_steps, 1.0)
    variance = source.config["variance_type"].removesuffix("_log")
    table = _make(solvers.ddpm, source, grid, wish, variance=variance)
    if wish.corrected or variance == "fixed_small" or grid.time[-1] == 0:
        return table
    injected = np.asarray(table.c).copy()
    injected[-1] = grid.sigma[-2]
    return dataclasses.replace(table, c=injected, stochastic=True)


def _flow_sigmas(source: Source, num_steps: int, wish: Wish) -> Grid:
    """The grid of a multistep method with use_flow_sigmas."""
    config, unipc = source.config, source.name == "UniPCMultistepScheduler"
    count = config["num_train_timesteps"]
    ramp = np.linspace(1, 1 / count, num_steps + 1)
    if unipc:
        levels = grids.shifted(config, ramp[:-1], wish.mu)
        levels[0] -= 1e-6 if abs(levels[0] - 1) < 1e-6 else 0.0
    else:
        levels = grids.shifted(config | {"shift_terminal": None}, 1 - ramp, wish.mu)[::-1][:-1]
    last = levels[-1] if source.name == "DEISMultistepScheduler" else 0.0
    if config.get("final_sigmas_type") == "sigma_min":
        last = levels[-1] if unipc else float(grids.ratios(source.table)[0])
    schedule = RectifiedFlow(1.0, count)
    return grids.flow_grid(schedule, np.append(levels, last), np.trunc(levels * count))


def _multistep(source: Source, num_steps: int, wish: Wish) -> Grid:
    """Of DPM-Solver++, UniPC and DEIS: one point more than steps, whole times."""
    config, table = source.config, source.table
    if config.get("use_flow_sigmas"):
        return _flow_sigmas(source, num_steps, wish)
    unipc, deis = source.name == "UniPCMultistepScheduler", source.name == "DEISMultistepScheduler"
    every = grids.ratios(table)
    levels = grids.spread(config, float(every[-1]), float(every[0]), num_steps)
    if config.get("use_lu_lambdas"):
        logs = np.log(every)
        levels = np.exp(np.linspace(float(logs[-1]), float(logs[0]), num_steps))
    named = levels is None
    if levels is None:
        time = grids.spaced_times(config, num_steps, whole=True, extra=True)
        levels = np.interp(time, np.arange(len(every)), every)
    else:
        time = grids.time_of(levels, table)
        rounds = config.get("use_karras_sigmas") or config.get("use_lu_lambdas")
        if rounds and (unipc or deis or config["beta_schedule"] != "squaredcos_cap_v2"):
            time = np.round(time)
        time = np.trunc(time)
    if deis:
        last = float(every[0]) if named else levels[-1]
    elif config["final_sigmas_type"] == "zero":
        last = 0.0
    else:
        last = levels[-1] if unipc and not named else float(every[0])
    return grids.vp_grid(source.schedule, time, np.append(levels, last))  # type: ignore[arg-type]


def _dpm(source: Source, num_steps: int, wish: Wish) -> Solver:
    config, kind = source.config, source.config["algorithm_type"]
    sde, order = kind.startswith("sde-"), config["solver_order"]
    if sde and order == 3 and not wish.corrected:
        raise ValueError(
            f"{kind} of solver_order 3 is not supported as diffusers computes it: its last coefficient has the wrong "
            "sign, and the method is of first order; pass corrected=True for 3M SDE, or set solver_order to 2"
        )
    own = {
        "order": order,
        "kind": config["solver_type"],
        "integrates": "data" if kind.endswith("++") else "noise",
        "sde": sde,
        "lower_order_final": config["lower_order_final"] and num_steps < 15,
        "first_order_last": config["euler_at_final"],
    }
    return _make(solvers.dpm_solver_pp, source, _multistep(source, num_steps, wish), wish, **own)


def _unipc(source: Source, num_steps: int, wish: Wish) -> Solver:
    config = source.config
    own = {
        "order": config["solver_order"],
        "kind": config["solver_type"],
        "integrates": "data" if config["predict_x0"] else "noise",
        "lower_order_final": config["lower_order_final"],
        # Theirs counts the step before the state.
        "uncorrected": [int(step) + 1 for step in config["disable_corrector"]],
    }
    return _make(solvers.unipc, source, _multistep(source, num_steps, wish), wish, **own)


def _deis(source: Source, num_steps: int, wish: Wish) -> Solver:
    config = source.config
    own = {"order": config["solver_order"], "lower_order_final": config["lower_order_final"] and num_steps < 15}
    return _make(solvers.deis, source, _multistep(source, num_steps, wish), wish, **own)


def _karras(source: Source, num_steps: int) -> Grid:
    """Of the schedulers that keep states in units of alpha = 1: Euler, Heun, LMS and DPM2."""
    config, table = source.config, source.table
    time = grids.spaced_times(config, num_steps, whole=False)
    every = grids.ratios(table)
    levels, last = np.interp(time, np.arange(len(every)), every), 0.0
    if config.get("final_sigmas_type") == "sigma_min":
        last = float(every[0])
    if config.get("interpolation_type") == "log_linear":
        *levels, last = np.exp(np.linspace(np.log(every[-1]), np.log(every[0]), num_steps + 1))
        levels = np.asarray(levels)
    found = grids.spread(config, levels[0], levels[-1], num_steps)
    if found is not None:
        levels, time = found, grids.time_of(found, table)
        if source.name.startswith("KDPM2") and config.get("use_karras_sigmas"):
            time = np.round(time)
    if config.get("timestep_type") == "continuous" and config["prediction_type"] == "v_prediction":
        time = 0.25 * np.log(levels)
    # Their first state: noise times the largest level, or the deviation of noise on top of data.
    start = 1.0 if config["timestep_spacing"] == "leading" else levels.max() / np.sqrt(1 + levels.max() ** 2)
    grid = np.append(levels, last)
    return grids.vp_grid(source.schedule, time, grid, last_unit=True, start_scale=float(start))  # type: ignore[arg-type]


def _euler(source: Source, num_steps: int, wish: Wish) -> Solver:
    ancestral = {"eta": 1.0} if source.name == "EulerAncestralDiscreteScheduler" else {}
    return _make(solvers.ddim, source, _karras(source, num_steps), wish, **ancestral)


def _pndm(source: Source, num_steps: int, wish: Wish) -> Solver:
    config, schedule = source.config, source.schedule
    spacing = config["timestep_spacing"]
    own = {
        "prediction": source.prediction,
        "skip_prk_steps": config["skip_prk_steps"],
        "spacing": spacing,
        "offset": config["steps_offset"] if spacing == "leading" else 0,
        "stride": None if wish.corrected else config["num_train_timesteps"] // num_steps,
    }
    return solvers.pndm(schedule, num_steps, **(own | wish.options))  # type: ignore[arg-type]


def _flow(source: Source, num_steps: int, wish: Wish) -> Solver:
    config = source.config
    count = config["num_train_timesteps"]
    shift = 1.0 if config["use_dynamic_shifting"] else float(config["shift"])
    smallest = shift / count / (1 + (shift - 1) / count)
    # The smallest level is shifted twice, as theirs is.
    levels = grids.shifted(config, np.linspace(1.0, smallest, num_steps), wish.mu)
    found = grids.spread(config, levels[0], levels[-1], num_steps)
    levels = levels if found is None else found
    grid = grids.flow_grid(source.schedule, np.append(levels, 0.0))  # type: ignore[arg-type]
    return _make(solvers.euler, source, grid, wish, stochastic=bool(config["stochastic_sampling"]))


def _of(method: Callable[..., Solver], **own: Any) -> Callable[[Source, int, Wish], Solver]:
    def build(source: Source, num_steps: int, wish: Wish) -> Solver:
        return _make(method, source, _karras(source, num_steps), wish, **own)

    return build


METHODS: dict[str, Callable[[Source, int, Wish], Solver]] = {
    "DDIMScheduler": _ddim,
    "DDPMScheduler": _ddpm,
    "DPMSolverMultistepScheduler": _dpm,
    "UniPCMultistepScheduler": _unipc,
    "DEISMultistepScheduler": _deis,
    "EulerDiscreteScheduler": _euler,
    "EulerAncestralDiscreteScheduler": _euler,
    "HeunDiscreteScheduler": _of(solvers.heun),
    "KDPM2DiscreteScheduler": _of(solvers.dpm2),
    "KDPM2AncestralDiscreteScheduler": _of(solvers.dpm2, ancestral=True),
    "LMSDiscreteScheduler": _of(solvers.lms),
    "PNDMScheduler": _pndm,
    "FlowMatchEulerDiscreteScheduler": _flow,
}
