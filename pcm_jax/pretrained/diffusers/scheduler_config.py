"""What `scheduler_config.json` of diffusers says, defaults filled in, and what of it is supported."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from pcm_jax.pretrained.diffusers.config import read_json
from pcm_jax.types import PredictionType, Spacing

PREDICTIONS: dict[str, PredictionType] = {"epsilon": "epsilon", "sample": "data", "v_prediction": "v"}
_COMMON = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
_CLIPPED = {"clip_sample": True, "clip_sample_range": 1.0, "timestep_spacing": "leading"}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": _CLIPPED | {"set_alpha_to_one": True},
    "DDPMScheduler": _CLIPPED | {"variance_type": "fixed_small"},
    "DPMSolverMultistepScheduler": {"timestep_spacing": "linspace"},
    "EulerDiscreteScheduler": {"timestep_spacing": "linspace"},
}
"""What diffusers assumes where the file is silent."""

_ONLY: dict[str, dict[str, tuple[Any, ...]]] = {
    "DDIMScheduler": {},
    "DDPMScheduler": {"variance_type": ("fixed_small", "fixed_small_log", "fixed_large")},
    "DPMSolverMultistepScheduler": {
        "algorithm_type": ("dpmsolver++",),
        "solver_order": (2,),
        "solver_type": ("midpoint",),
        "use_exponential_sigmas": (False,),
        "use_beta_sigmas": (False,),
        "use_lu_lambdas": (False,),
        "use_flow_sigmas": (False,),
        # Of DDPM; without a learned variance it changes nothing.
        "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large"),
        "final_sigmas_type": ("zero", "sigma_min"),
    },
    "EulerDiscreteScheduler": {
        "interpolation_type": ("linear",),
        "timestep_type": ("discrete",),
        "sigma_min": (None,),
        "sigma_max": (None,),
        "use_exponential_sigmas": (False, None),
        "use_beta_sigmas": (False, None),
        "final_sigmas_type": ("zero", "sigma_min"),
    },
}
"""Values that are supported, of keys that are not supported with any."""


def read(path: Path, scheduler: str | None) -> tuple[Path, str, dict[str, Any]]:
    """(file, class, its configuration); arguments and errors as of `load_scheduler`."""
    file = path / "scheduler_config.json" if path.suffix != ".json" else path
    return file, *complete(read_json(file, "scheduler configuration"), str(file), scheduler)


def complete(config: dict[str, Any], file: str, scheduler: str | None = None) -> tuple[str, dict[str, Any]]:
    """(class, its configuration with defaults); ValueError for what is not supported. file: for errors."""
    name = scheduler or config.get("_class_name")
    if name not in _DEFAULTS:
        raise ValueError(
            f"{file}: scheduler {name!r} is not supported; pass scheduler= with one of {', '.join(_DEFAULTS)}, which "
            "sample the same model with another method"
        )
    # What the file's own class only assumed does not bind another class, as in `from_config` of diffusers.
    assumed = set(config.get("_use_default_values", ())) if scheduler else set()
    given = {key: value for key, value in config.items() if not key.startswith("_") and key not in assumed}
    config = _COMMON | _DEFAULTS[name] | given
    for key, allowed in _ONLY[name].items():
        if config.get(key, allowed[0]) not in allowed:
            raise ValueError(
                f"{file}: {key} = {config[key]!r} is not supported for {name}; supported: "
                f"{', '.join(map(str, allowed))}"
            )
    if config.get("timestep_spacing") not in get_args(Spacing)[:3]:
        raise ValueError(f"{file}: timestep_spacing = {config.get('timestep_spacing')!r} is unknown; use 'trailing'")
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise ValueError(
            f"{file}: prediction_type = {prediction!r} is not supported; supported: {', '.join(PREDICTIONS)}"
        )
    return name, config
