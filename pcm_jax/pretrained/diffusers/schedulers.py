"""`scheduler_config.json` of diffusers as a schedule and a solver."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pcm_jax import solvers
from pcm_jax.pretrained.diffusers import scheduler_grids as grids
from pcm_jax.pretrained.diffusers.scheduler_config import PREDICTIONS, read
from pcm_jax.schedules import VP, RectifiedFlow
from pcm_jax.solvers import Clip, Grid, Solver
from pcm_jax.types import PredictionType


@dataclasses.dataclass(frozen=True, eq=False)
class Scheduler:
    """A sampler of diffusers: the schedule that the model was trained with, and solvers for any number of steps.

    config: the file's content, with the defaults of its class filled in.
    """

    name: str
    schedule: VP | RectifiedFlow
    prediction: PredictionType
    clip: Clip
    config: dict[str, Any]

    def solver(self, num_steps: int, *, corrected: bool = False, mu: float | None = None, **options: Any) -> Solver:
        """The method that diffusers 0.42.1 runs with `num_steps`: the same samples from the same noise.

        States are of variance 1, where diffusers' Euler, Heun, LMS and DPM2 have them in units of alpha = 1; the sample
        is theirs. Its `init_noise_sigma` is the table's start_scale: the noise is standard normal.

        Args:
            num_steps: what `set_timesteps` is called with. Methods of two calls have more rows.
            corrected: in place of what diffusers does and is known to be wrong: DDIM and PNDM step to the next time of
                their own grid, not to t - num_train_timesteps // num_steps, which under linspace (and trailing, where
                the number does not divide) is another; PNDM's first step starts where it starts; DDPM with fixed_large
                adds no noise to the sample; 3M SDE has the sign of its last coefficient right, and is refused else.
            mu: the shift of a flow-matching scheduler with use_dynamic_shifting.
            options: to the solver's constructor, such as eta for DDIM, in place of the file's.

        Raises:
            ValueError: more steps than the grid has, or options that the file's method does not have.
        """
        if isinstance(num_steps, bool) or not isinstance(num_steps, (int, np.integer)) or num_steps < 1:
            raise ValueError(f"num_steps must be a whole number of at least 1, got {num_steps!r}")
        return _SOLVERS[self.name](self, int(num_steps), _Wish(corrected, mu, options))

    @property
    def _table(self) -> np.ndarray:
        """alphas_cumprod, float32."""
        assert isinstance(self.schedule, VP)
        return np.asarray(self.schedule.alphas_cumprod, np.float32)


@dataclasses.dataclass(frozen=True)
class _Wish:
    """What the caller asks for beside the file."""

    corrected: bool
    mu: float | None
    options: dict[str, Any]


def load_scheduler(path: str | Path, scheduler: str | None = None) -> Scheduler:
    """The sampler of a diffusers folder.

    Args:
        path: a folder with scheduler_config.json, or the file.
        scheduler: a class of diffusers in place of the one that the file names, as
            `diffusers.DDIMScheduler.from_config(other.config)` does: the betas stay, the method changes.

    Raises:
        ValueError: a class, a key's value or betas that are not supported; names them and what to do.
    """
    file, name, config = read(Path(path), scheduler)
    return build_scheduler(name, config, str(file))


def build_scheduler(name: str, config: dict[str, Any], file: str) -> Scheduler:
    """Of a complete configuration. file: for errors."""
    if name == "FlowMatchEulerDiscreteScheduler":
        flow = RectifiedFlow(float(config["shift"]), int(config["num_train_timesteps"]))
        return Scheduler(name, flow, "velocity", None, config)
    table = grids.alphas_cumprod(config, finite=name not in ("DDIMScheduler", "DDPMScheduler"))
    clean = (
        config["set_alpha_to_one"] if "set_alpha_to_one" in config else config.get("final_sigmas_type") != "sigma_min"
    )
    if name == "DEISMultistepScheduler":
        clean = False
    schedule = VP(tuple(table.astype(np.float64).tolist()), bool(clean))
    if config.get("prediction_type") == "flow_prediction" and not config.get("use_flow_sigmas"):
        raise ValueError(
            f"{file}: prediction_type = 'flow_prediction' goes with use_flow_sigmas = true, which gives the model the "
            "noise levels that it predicts the flow of"
        )
    return Scheduler(name, schedule, PREDICTIONS[config["prediction_type"]], _clip(config), config)


def _clip(config: dict[str, Any]) -> Clip:
    if config.get("thresholding"):
        ratio, bound = config.get("dynamic_thresholding_ratio", 0.995), config.get("sample_max_value", 1.0)
        return solvers.dynamic_threshold(ratio, bound)
    return float(config["clip_sample_range"]) if config.get("clip_sample") and "clip_sample_range" in config else None


def _make(method: Callable[..., Solver], scheduler: Scheduler, grid: Grid, wish: _Wish, **own: Any) -> Solver:
    common = {"prediction": scheduler.prediction, "clip": scheduler.clip, "spacing": grid}
    return method(scheduler.schedule, len(grid), **(common | own | wish.options))


def _discrete(scheduler: Scheduler, num_steps: int, last: float) -> Grid:
    """A grid of training indices; last: alphas_cumprod of the last state."""
    time = grids.spaced_times(scheduler.config, num_steps, whole=True)
    products = np.append(scheduler._table[time.astype(int)].astype(np.float64), last)
    return Grid(scheduler.schedule, time, np.sqrt(products), np.sqrt(1 - products))


def _ddim(scheduler: Scheduler, num_steps: int, wish: _Wish) -> Solver:
    table, last = scheduler._table.astype(np.float64), scheduler.schedule.final[0] ** 2
    grid = _discrete(scheduler, num_steps, last)
    if not wish.corrected:
        before = grid.time.astype(int) - len(table) // num_steps
        products = np.where(before >= 0, table[np.maximum(before, 0)], last)
        grid = dataclasses.replace(grid, aims=(np.sqrt(products), np.sqrt(1 - products)))
    return _make(solvers.ddim, scheduler, grid, wish, clipped_noise=False)


def _ddpm(scheduler: Scheduler, num_steps: int, wish: _Wish) -> Solver:
    grid = _discrete(scheduler, num_steps, 1.0)
    variance = scheduler.config["variance_type"].removesuffix("_log")
    table = _make(solvers.ddpm, scheduler, grid, wish, variance=variance)
    if wish.corrected or variance == "fixed_small" or grid.time[-1] == 0:
        return table
    injected = np.asarray(table.c).copy()
    injected[-1] = grid.sigma[-2]
    return dataclasses.replace(table, c=injected, stochastic=True)


def _flow_sigmas(scheduler: Scheduler, num_steps: int, wish: _Wish) -> tuple[Grid, float]:
    """The grid of a multistep scheduler with use_flow_sigmas, and its smallest level above the last."""
    config, unipc = scheduler.config, scheduler.name == "UniPCMultistepScheduler"
    count = config["num_train_timesteps"]
    ramp = np.linspace(1, 1 / count, num_steps + 1)
    if unipc:
        levels = grids.shifted(config, ramp[:-1], wish.mu)
        levels[0] -= 1e-6 if abs(levels[0] - 1) < 1e-6 else 0.0
    else:
        levels = grids.shifted(config | {"shift_terminal": None}, 1 - ramp, wish.mu)[::-1][:-1]
    last = levels[-1] if scheduler.name == "DEISMultistepScheduler" else 0.0
    if config.get("final_sigmas_type") == "sigma_min":
        last = levels[-1] if unipc else float(grids.ratios(scheduler._table)[0])
    schedule = RectifiedFlow(1.0, count)
    return grids.flow_grid(schedule, np.append(levels, last), np.trunc(levels * count)), float(levels[-1])


def _multistep(scheduler: Scheduler, num_steps: int, wish: _Wish) -> Grid:
    """Of DPM-Solver++, UniPC and DEIS: one point more than steps, whole times."""
    config, table = scheduler.config, scheduler._table
    if config.get("use_flow_sigmas"):
        return _flow_sigmas(scheduler, num_steps, wish)[0]
    unipc, deis = scheduler.name == "UniPCMultistepScheduler", scheduler.name == "DEISMultistepScheduler"
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
    return grids.vp_grid(scheduler.schedule, time, np.append(levels, last))  # type: ignore[arg-type]


def _dpm(scheduler: Scheduler, num_steps: int, wish: _Wish) -> Solver:
    config, kind = scheduler.config, scheduler.config["algorithm_type"]
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
    return _make(solvers.dpm_solver_pp, scheduler, _multistep(scheduler, num_steps, wish), wish, **own)


def _unipc(scheduler: Scheduler, num_steps: int, wish: _Wish) -> Solver:
    config = scheduler.config
    own = {
        "order": config["solver_order"],
        "kind": config["solver_type"],
        "integrates": "data" if config["predict_x0"] else "noise",
        "lower_order_final": config["lower_order_final"],
        # Theirs counts the step before the state.
        "uncorrected": [int(step) + 1 for step in config["disable_corrector"]],
    }
    return _make(solvers.unipc, scheduler, _multistep(scheduler, num_steps, wish), wish, **own)


def _deis(scheduler: Scheduler, num_steps: int, wish: _Wish) -> Solver:
    config = scheduler.config
    own = {"order": config["solver_order"], "lower_order_final": config["lower_order_final"] and num_steps < 15}
    return _make(solvers.deis, scheduler, _multistep(scheduler, num_steps, wish), wish, **own)


def _karras(scheduler: Scheduler, num_steps: int) -> Grid:
    """Of the schedulers that keep states in units of alpha = 1: Euler, Heun, LMS and DPM2."""
    config, table = scheduler.config, scheduler._table
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
        if scheduler.name.startswith("KDPM2") and config.get("use_karras_sigmas"):
            time = np.round(time)
    if config.get("timestep_type") == "continuous" and config["prediction_type"] == "v_prediction":
        time = 0.25 * np.log(levels)
    # Their first state: noise times the largest level, or the deviation of noise on top of data.
    start = 1.0 if config["timestep_spacing"] == "leading" else levels.max() / np.sqrt(1 + levels.max() ** 2)
    grid = np.append(levels, last)
    return grids.vp_grid(scheduler.schedule, time, grid, last_unit=True, start_scale=float(start))  # type: ignore[arg-type]


def _euler(scheduler: Scheduler, num_steps: int, wish: _Wish) -> Solver:
    ancestral = {"eta": 1.0} if scheduler.name == "EulerAncestralDiscreteScheduler" else {}
    return _make(solvers.ddim, scheduler, _karras(scheduler, num_steps), wish, **ancestral)


def _pndm(scheduler: Scheduler, num_steps: int, wish: _Wish) -> Solver:
    config, schedule = scheduler.config, scheduler.schedule
    spacing = config["timestep_spacing"]
    own = {
        "prediction": scheduler.prediction,
        "skip_prk_steps": config["skip_prk_steps"],
        "spacing": spacing,
        "offset": config["steps_offset"] if spacing == "leading" else 0,
        "stride": None if wish.corrected else config["num_train_timesteps"] // num_steps,
    }
    return solvers.pndm(schedule, num_steps, **(own | wish.options))  # type: ignore[arg-type]


def _flow(scheduler: Scheduler, num_steps: int, wish: _Wish) -> Solver:
    config = scheduler.config
    count = config["num_train_timesteps"]
    shift = 1.0 if config["use_dynamic_shifting"] else float(config["shift"])
    smallest = shift / count / (1 + (shift - 1) / count)
    # The smallest level is shifted twice, as theirs is.
    levels = grids.shifted(config, np.linspace(1.0, smallest, num_steps), wish.mu)
    found = grids.spread(config, levels[0], levels[-1], num_steps)
    levels = levels if found is None else found
    grid = grids.flow_grid(scheduler.schedule, np.append(levels, 0.0))  # type: ignore[arg-type]
    return _make(solvers.euler, scheduler, grid, wish, stochastic=bool(config["stochastic_sampling"]))


def _of(method: Callable[..., Solver], **own: Any) -> Callable[[Scheduler, int, _Wish], Solver]:
    def build(scheduler: Scheduler, num_steps: int, wish: _Wish) -> Solver:
        return _make(method, scheduler, _karras(scheduler, num_steps), wish, **own)

    return build


_SOLVERS: dict[str, Callable[[Scheduler, int, _Wish], Solver]] = {
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
