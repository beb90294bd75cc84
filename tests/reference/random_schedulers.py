"""Samplers that `pretrained.diffusers` imports, as scheduler_config.json has them, and what they are run on."""

from __future__ import annotations

from typing import Any

import numpy as np

BATCH, STEPS = 2, 20

_SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
_SD = _SCALED | {"steps_offset": 1, "clip_sample": False, "set_alpha_to_one": False}
_EULER = _SCALED | {"_class_name": "EulerDiscreteScheduler", "steps_offset": 1}
_DPM = {"_class_name": "DPMSolverMultistepScheduler"}
SCHEDULERS: dict[str, dict[str, Any]] = {
    "ddim": {"_class_name": "DDIMScheduler"},
    "ddim-stable-diffusion": _SD | {"_class_name": "DDIMScheduler"},
    "ddim-celeba": {
        "_class_name": "DDIMScheduler",
        "beta_schedule": "scaled_linear",
        "beta_start": 0.0015,
        "beta_end": 0.0195,
        "clip_sample": False,
        "timestep_values": None,
    },
    "ddim-trailing": _SCALED
    | {"_class_name": "DDIMScheduler", "timestep_spacing": "trailing", "prediction_type": "v_prediction"},
    "ddim-trained": {"_class_name": "DDIMScheduler", "num_train_timesteps": 40, "clip_sample_range": 2.0}
    | {"trained_betas": [0.01 + 0.002 * index for index in range(40)]},
    "ddpm": {"_class_name": "DDPMScheduler"},
    "ddpm-log": {"_class_name": "DDPMScheduler", "variance_type": "fixed_small_log", "clip_sample": False},
    "ddpm-large": {
        "_class_name": "DDPMScheduler",
        "variance_type": "fixed_large",
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": "sample",
        "thresholding": True,
        "dynamic_thresholding_ratio": 0.8,
        "sample_max_value": 1.5,
    },
    "dpm": _DPM,
    "dpm-stable-diffusion": _DPM | _SD | {"timestep_spacing": "leading", "final_sigmas_type": "sigma_min"},
    "dpm-euler-last": _DPM | _SCALED | {"timestep_spacing": "trailing", "euler_at_final": True},
    "dpm-karras": _DPM | _SCALED | {"use_karras_sigmas": True, "prediction_type": "v_prediction"},
    "euler": _EULER,
    "euler-leading": _EULER | {"timestep_spacing": "leading", "final_sigmas_type": "sigma_min"},
    "euler-trailing": _EULER | {"timestep_spacing": "trailing", "prediction_type": "v_prediction"},
    "euler-karras": _EULER | {"use_karras_sigmas": True},
    "euler-karras-leading": _EULER | {"use_karras_sigmas": True, "timestep_spacing": "leading"},
    "pndm as ddim": _SD | {"_class_name": "PNDMScheduler", "skip_prk_steps": True},
}
"""Samplers; "x as y" is the configuration of x, read as one of y."""

OTHER = {"ddim": "DDIMScheduler"}


def inputs() -> tuple[np.ndarray, np.ndarray]:
    """Noise `[BATCH, 3, 4]`, and the noise of every step."""
    rng = np.random.default_rng(5)
    return rng.standard_normal((BATCH, 3, 4)), rng.standard_normal((STEPS, BATCH, 3, 4))


def prediction(x: Any, t: Any, xp: Any) -> Any:
    """What stands for the network in trajectories, of NumPy, JAX or PyTorch."""
    return 0.9 * x - 0.3 * xp.tanh(x + 0.002 * t)
