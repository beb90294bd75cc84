"""`scheduler_config.json` of diffusers as a schedule and a solver."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from pcm_jax import solvers
from pcm_jax.files import reads
from pcm_jax.pretrained.diffusers import scheduler_grids as grids
from pcm_jax.pretrained.diffusers.scheduler_config import PREDICTIONS, read
from pcm_jax.pretrained.diffusers.scheduler_methods import METHODS, Source, Wish
from pcm_jax.schedules import VP, RectifiedFlow
from pcm_jax.solvers import Clip, Solver


@dataclasses.dataclass(frozen=True, eq=False)
class Scheduler(Source):
    """A sampler of diffusers: the schedule that the model was trained with, and solvers for any number of steps.

    config: the file's content, with the defaults of its class filled in.
    """

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
        return METHODS[self.name](self, int(num_steps), Wish(corrected, mu, options))


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
    """Of a complete configuration. file: for errors."""
    if name == "FlowMatchEulerDiscreteScheduler":
        flow = RectifiedFlow(float(config["shift"]), int(config["num_train_timesteps"]))
        return Scheduler(name, flow, "velocity", None, config)
    # Theirs may rise at the last step of a zero terminal SNR, which keeps a little signal.
    table = np.minimum.accumulate(grids.table_of(name, config))
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
