"""What `scheduler_config.json` of diffusers says, defaults filled in, and what of it is supported."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from pcm_jax.pretrained.diffusers.config import read_json
from pcm_jax.types import PredictionType

PREDICTIONS: dict[str, PredictionType] = {
    "epsilon": "epsilon",
    "sample": "data",
    "v_prediction": "v",
    "flow_prediction": "velocity",
}
_SPACINGS = ("leading", "trailing", "linspace")
_VP = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
_VP |= {"prediction_type": "epsilon", "timestep_spacing": "linspace", "steps_offset": 0}
_BETAS = ("linear", "scaled_linear", "squaredcos_cap_v2")
_ANY_NOISE = ("epsilon", "sample", "v_prediction")
_SPREAD = {"use_karras_sigmas": (False, True, None), "use_exponential_sigmas": (False, True, None)}
_SPREAD |= {"use_beta_sigmas": (False, True, None)}
_CLIP = {"clip_sample": True, "clip_sample_range": 1.0, "thresholding": False, "timestep_spacing": "leading"}
_FINAL = ("zero", "sigma_min")
_SHIFT = {"use_dynamic_shifting": (False, True), "time_shift_type": ("exponential", "linear")}


@dataclasses.dataclass(frozen=True)
class Known:
    """How one class is read. defaults: what diffusers assumes where the file is silent. only: values that are
    supported, of keys that are not supported with any. renamed: values of other classes' files that this class takes
    for its own.
    """  # noqa: D205

    defaults: dict[str, Any]
    only: dict[str, tuple[Any, ...]]
    renamed: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)


def _vp(
    defaults: dict[str, Any] | None = None,
    only: dict[str, tuple[Any, ...]] | None = None,
    renamed: dict[str, dict[str, str]] | None = None,
) -> Known:
    """Of a class with betas."""
    allowed = {"beta_schedule": _BETAS, "timestep_spacing": _SPACINGS, "prediction_type": _ANY_NOISE} | (only or {})
    return Known(_VP | (defaults or {}), allowed, renamed or {})


_TWO = {"prediction_type": ("epsilon", "v_prediction")}
_MULTISTEP = _SPREAD | {"use_flow_sigmas": (False, True), "prediction_type": tuple(PREDICTIONS)}
_STABLE = {"beta_start": 0.00085, "beta_end": 0.012}
KNOWN: dict[str, Known] = {
    "DDIMScheduler": _vp(_CLIP | {"set_alpha_to_one": True}),
    "DDPMScheduler": _vp(
        _CLIP | {"variance_type": "fixed_small"},
        {
            "variance_type": ("fixed_small", "fixed_small_log", "fixed_large"),
            "beta_schedule": (*_BETAS, "sigmoid"),
        },
    ),
    "DPMSolverMultistepScheduler": _vp(
        {"solver_order": 2, "algorithm_type": "dpmsolver++", "solver_type": "midpoint", "lower_order_final": True}
        | {"euler_at_final": False, "final_sigmas_type": "zero", "thresholding": False, "flow_shift": 1.0},
        _MULTISTEP
        | {
            "algorithm_type": ("dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver"),
            "solver_order": (1, 2, 3),
            "solver_type": ("midpoint", "heun"),
            "final_sigmas_type": _FINAL,
            # Of DDPM; without a learned variance it changes nothing.
            "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
        },
        {
            "algorithm_type": {"deis": "dpmsolver++"},
            "solver_type": dict.fromkeys(("logrho", "bh1", "bh2"), "midpoint"),
        },
    ),
    "UniPCMultistepScheduler": _vp(
        {"solver_order": 2, "solver_type": "bh2", "lower_order_final": True, "predict_x0": True, "flow_shift": 1.0}
        | {"final_sigmas_type": "zero", "disable_corrector": [], "thresholding": False, "shift_terminal": None},
        _MULTISTEP
        | {
            "solver_type": ("bh1", "bh2"),
            "solver_order": (1, 2, 3, 4, 5, 6),
            "final_sigmas_type": _FINAL,
            "solver_p": (None,),
        },
        {"solver_type": dict.fromkeys(("midpoint", "heun", "logrho"), "bh2")},
    ),
    "DEISMultistepScheduler": _vp(
        {"solver_order": 2, "lower_order_final": True, "thresholding": False, "flow_shift": 1.0},
        _MULTISTEP | {"solver_order": (1, 2, 3)},
    ),
    "EulerDiscreteScheduler": _vp(
        {"interpolation_type": "linear", "timestep_type": "discrete", "final_sigmas_type": "zero"},
        _SPREAD
        | {
            "interpolation_type": ("linear", "log_linear"),
            "timestep_type": ("discrete", "continuous"),
            "final_sigmas_type": _FINAL,
        },
    ),
    "EulerAncestralDiscreteScheduler": _vp({}, _TWO),
    "HeunDiscreteScheduler": _vp(_STABLE | {"clip_sample": False, "clip_sample_range": 1.0}, _SPREAD),
    "KDPM2DiscreteScheduler": _vp(_STABLE, _SPREAD | _TWO),
    "KDPM2AncestralDiscreteScheduler": _vp(_STABLE, _SPREAD | _TWO),
    "LMSDiscreteScheduler": _vp({}, _SPREAD),
    "PNDMScheduler": _vp({"skip_prk_steps": False, "set_alpha_to_one": False, "timestep_spacing": "leading"}, _TWO),
    "FlowMatchEulerDiscreteScheduler": Known(
        {"num_train_timesteps": 1000, "shift": 1.0, "use_dynamic_shifting": False, "shift_terminal": None}
        | {"time_shift_type": "exponential", "stochastic_sampling": False, "invert_sigmas": False},
        _SPREAD | _SHIFT | {"invert_sigmas": (False,)},
    ),
}


_NUMBERS = {"num_train_timesteps", "beta_start", "beta_end", "steps_offset", "shift", "flow_shift", "clip_sample_range"}
_NUMBERS |= {"sample_max_value", "dynamic_thresholding_ratio"}


def _betas(value: Any, file: str) -> list[float]:
    if not isinstance(value, list) or not all(isinstance(beta, (int, float)) and 0 <= beta <= 1 for beta in value):
        raise ValueError(f"{file}: trained_betas must be a list of numbers in [0, 1]; copy the file again")
    return value


def read(path: Path, scheduler: str | None) -> tuple[Path, str, dict[str, Any]]:
    """(file, class, its configuration); arguments and errors as of `load_scheduler`."""
    file = path / "scheduler_config.json" if path.suffix != ".json" else path
    return file, *complete(read_json(file, "scheduler configuration"), str(file), scheduler)


def complete(config: dict[str, Any], file: str, scheduler: str | None = None) -> tuple[str, dict[str, Any]]:
    """(class, its configuration with defaults); ValueError for what is not supported. file: for errors."""
    name = scheduler or config.get("_class_name")
    if name not in KNOWN:
        raise ValueError(
            f"{file}: scheduler {name!r} is not supported; pass scheduler= with one of {', '.join(KNOWN)}, which "
            "sample the same model with another method"
        )
    known = KNOWN[name]
    # What the file's own class only assumed does not bind another class, as in `from_config` of diffusers.
    assumed = set(config.get("_use_default_values", ())) if scheduler else set()
    given = {key: value for key, value in config.items() if not key.startswith("_") and key not in assumed}
    config = known.defaults | given
    for key, values in known.renamed.items():
        config[key] = values.get(config[key], config[key])
    for key in _NUMBERS & config.keys():
        value = config[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
            raise ValueError(f"{file}: {key} must be a number, got {value!r}; copy the file again")
    if config.get("num_train_timesteps", 1) < 1 or config["num_train_timesteps"] != int(config["num_train_timesteps"]):
        raise ValueError(f"{file}: num_train_timesteps must be a whole number, got {config['num_train_timesteps']!r}")
    betas = config.get("trained_betas") is not None
    count = config["num_train_timesteps"]
    if betas and len(_betas(config["trained_betas"], file)) != count:
        found = len(config["trained_betas"])
        raise ValueError(f"{file}: trained_betas has {found} entries for {count} training steps; they are one for each")
    for key, allowed in known.only.items():
        if config.get(key, allowed[0]) not in allowed and not (betas and key == "beta_schedule"):
            remedy = "; or write the betas out as a list under 'trained_betas'" if key == "beta_schedule" else ""
            raise ValueError(
                f"{file}: {key} = {config[key]!r} is not supported for {name}; supported: "
                f"{', '.join(map(str, allowed))}{remedy}"
            )
    spread = [key for key in _SPREAD if key in known.only and config.get(key)]
    if len(spread) > 1:
        raise ValueError(f"{file}: {' and '.join(spread)} exclude each other; set all but one of them to false")
    return name, config
