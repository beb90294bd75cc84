"""`scheduler_config.json` of diffusers as a schedule and a solver."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pcm_jax import schedules, solvers
from pcm_jax.files import reads
from pcm_jax.pretrained.diffusers.scheduler_config import PREDICTIONS, read
from pcm_jax.schedules import VP
from pcm_jax.solvers import Clip, Solver
from pcm_jax.types import ArrayLike, PredictionType


@dataclasses.dataclass(frozen=True)
class _LinearSigmas(VP):
    """Between two training indices sigma / alpha itself is interpolated linearly, as diffusers does for Euler."""

    def marginals(self, t: ArrayLike) -> tuple[ArrayLike, ArrayLike]:
        ratio = np.interp(np.asarray(t), np.arange(self.num_train_steps), np.exp(self._log_ratio))
        return 1.0 / np.sqrt(1.0 + ratio**2), ratio / np.sqrt(1.0 + ratio**2)


@dataclasses.dataclass(frozen=True, eq=False)
class Scheduler:
    """A sampler of diffusers: the schedule that the model was trained with, and solvers for any number of steps.

    config: the file's content, with the defaults of its class filled in.
    """

    name: str
    schedule: VP
    prediction: PredictionType
    clip: Clip
    config: dict[str, Any]

    def solver(self, num_steps: int, **options: Any) -> Solver:
        """The method that diffusers runs with `num_steps`; options, such as eta, go to the solver's constructor.

        With a clip DDIM is the one with `use_clipped_model_output=True`. Where diffusers' DDIM leaves its own grid
        (linspace; trailing where num_steps does not divide the training steps) this one stays on it. DPM-Solver++ with
        Karras sigmas gives the network the times of these sigmas, unrounded. Euler's method in sigma / alpha is DDIM;
        its states are diffusers' divided by sqrt(1 + sigma^2), so that all samplers start from noise of variance 1.
        """
        options = {"prediction": self.prediction, "clip": self.clip} | options
        return _SOLVERS[self.name](self, num_steps, options)

    @property
    def _spacing(self) -> dict[str, Any]:
        if self.config.get("use_karras_sigmas"):
            return {"spacing": "karras"}
        spacing = self.config["timestep_spacing"]
        return {"spacing": spacing, "offset": self.config.get("steps_offset", 0) if spacing == "leading" else 0}


@reads("path")
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
    """Of a complete configuration."""
    prediction = PREDICTIONS[config.get("prediction_type", "epsilon")]
    return Scheduler(name, _schedule(config, name, file), prediction, _clip(config), config)


def _clip(config: dict[str, Any]) -> Clip:
    if config.get("thresholding"):
        ratio, bound = config.get("dynamic_thresholding_ratio", 0.995), config.get("sample_max_value", 1.0)
        return solvers.dynamic_threshold(ratio, bound)
    return float(config["clip_sample_range"]) if config.get("clip_sample") and "clip_sample_range" in config else None


def _schedule(config: dict[str, Any], name: str, where: str) -> VP:
    """alphas_cumprod, and on what the last step ends."""
    if config.get("rescale_betas_zero_snr"):
        raise ValueError(
            f"{where}: rescale_betas_zero_snr = True is not supported: its first state holds nothing of the data; set "
            "it to false"
        )
    sigma_min = config.get("final_sigmas_type", "zero") == "sigma_min"
    options: dict[str, Any] = {
        "final_alpha_one": config["set_alpha_to_one"] if name == "DDIMScheduler" else not sigma_min
    }
    count, first, last = (config[key] for key in ("num_train_timesteps", "beta_start", "beta_end"))
    kind, trained = config["beta_schedule"], config.get("trained_betas")
    if trained is not None:
        schedule = VP(tuple(np.cumprod(1.0 - np.asarray(trained, np.float64)).tolist()), **options)
    elif kind == "linear":
        schedule = schedules.linear_vp(count, first, last, **options)
    elif kind == "scaled_linear":
        schedule = schedules.scaled_linear_vp(count, first, last, **options)
    elif kind == "squaredcos_cap_v2":
        schedule = schedules.cosine_vp(count, **options)
    else:
        raise ValueError(
            f"{where}: beta_schedule = {kind!r} is not supported; write the betas out as a list under 'trained_betas'"
        )
    bound = config.get("lambda_min_clipped")
    if name.startswith("DPM") and bound is not None and -schedule._log_ratio[-1] < float(bound):
        raise ValueError(f"{where}: lambda_min_clipped = {bound} cuts this schedule, which is not supported; remove it")
    return schedule


def _ddim(scheduler: Scheduler, num_steps: int, options: dict[str, Any]) -> Solver:
    return solvers.ddim(scheduler.schedule, num_steps, **(scheduler._spacing | options))


def _ddpm(scheduler: Scheduler, num_steps: int, options: dict[str, Any]) -> Solver:
    variance = scheduler.config.get("variance_type", "fixed_small").removesuffix("_log")
    return solvers.ddpm(scheduler.schedule, num_steps, **(scheduler._spacing | {"variance": variance} | options))


def _dpm(scheduler: Scheduler, num_steps: int, options: dict[str, Any]) -> Solver:
    config = scheduler.config
    lower = config.get("euler_at_final", False) or (config.get("lower_order_final", True) and num_steps < 15)
    own = {"lower_order_final": lower}
    return solvers.dpm_solver_pp(scheduler.schedule, num_steps, **(scheduler._spacing | own | options))


def _euler(scheduler: Scheduler, num_steps: int, options: dict[str, Any]) -> Solver:
    """DDIM; linspace times stay unrounded, and Karras sigmas span those of the spacing."""
    schedule, config = scheduler.schedule, scheduler.config
    spacing, offset = config["timestep_spacing"], config.get("steps_offset", 0)
    times = schedule.times(num_steps, spacing, offset if spacing == "leading" else 0)
    if config.get("use_karras_sigmas"):
        log_ratio = schedule._log_ratio
        largest, smallest = np.exp(np.interp(times[[0, -1]], np.arange(len(log_ratio)), log_ratio))
        sigmas = schedules._karras_sigmas(float(largest), float(smallest), num_steps)
        times = np.interp(np.log(sigmas), log_ratio, np.arange(len(log_ratio)))
    elif spacing == "linspace":
        schedule = _LinearSigmas(**{field.name: getattr(schedule, field.name) for field in dataclasses.fields(VP)})
        times = np.linspace(schedule.num_train_steps - 1, 0, num_steps)
    return solvers.ddim(schedule, num_steps, **({"spacing": tuple(times.tolist())} | options))


_SOLVERS: dict[str, Callable[[Scheduler, int, dict[str, Any]], Solver]] = {
    "DDIMScheduler": _ddim,
    "DDPMScheduler": _ddpm,
    "DPMSolverMultistepScheduler": _dpm,
    "EulerDiscreteScheduler": _euler,
}
