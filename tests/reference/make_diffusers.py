"""Write diffusers.npz and diffusers.json: whole trajectories of diffusers' own schedulers, for test_diffusers.py.

Needs an environment of its own (1.3 GB):

    python -m venv /tmp/ref && /tmp/ref/bin/pip install torch==2.13.0 diffusers==0.42.1
    /tmp/ref/bin/python tests/reference/make_diffusers.py

The network is tanh(x W1 + s t w + b) W2 in float64, s a time scale; the schedulers' own tables are float32. Every case
says with which arguments our solver is the same method (`ours`). Left out because the scheduler disagrees with its own
grid: DDIM and DDPM with `linspace` spacing (their previous timestep is t - N // T, not the next one of the grid), and
DPM-Solver++ with Karras sigmas (the network is given rounded times that do not belong to the sigmas).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.schedulers import scheduling_ddpm

HERE = Path(__file__).parent
STEPS, BATCH, SHAPE, HIDDEN = 50, 3, (2, 3), 16
DIM = 6  # the network sees samples flattened; thresholding wants them with two axes
LINEAR = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
DDIM = LINEAR | {"clip_sample": False}
DPM = {"algorithm_type": "dpmsolver++", "solver_order": 2, "final_sigmas_type": "zero"}


def case(
    scheduler: str, config: dict[str, Any], solver: str, schedule: str = "linear_vp", **ours: Any
) -> dict[str, Any]:
    extra = {key: ours.pop(key) for key in ("eta", "sigmas", "schedule_options", "steps") if key in ours}
    options = ours | ({"eta": extra["eta"]} if "eta" in extra else {})
    return {
        "scheduler": scheduler,
        "config": config,
        "eta": extra.get("eta", 0.0),
        "sigmas": extra.get("sigmas"),
        "steps": extra.get("steps", STEPS),
        "ours": {
            "solver": solver,
            "schedule": schedule,
            "schedule_options": extra.get("schedule_options", {}),
            "options": options,
        },
    }


CASES = {
    "ddim": case("DDIMScheduler", DDIM, "ddim"),
    "ddim-eta": case("DDIMScheduler", DDIM, "ddim", eta=0.5),
    "ddim-eta1": case("DDIMScheduler", DDIM, "ddim", eta=1.0),
    "ddim-trailing": case("DDIMScheduler", DDIM | {"timestep_spacing": "trailing"}, "ddim", spacing="trailing"),
    "ddim-v": case("DDIMScheduler", DDIM | {"prediction_type": "v_prediction"}, "ddim", prediction="v"),
    "ddim-data": case("DDIMScheduler", DDIM | {"prediction_type": "sample"}, "ddim", prediction="data"),
    "ddim-clip": case("DDIMScheduler", LINEAR | {"clip_sample": True}, "ddim", clip=1.0),
    "ddim-threshold": case(
        "DDIMScheduler",
        DDIM | {"thresholding": True, "dynamic_thresholding_ratio": 0.8, "sample_max_value": 1.5},
        "ddim",
        clip=["dynamic_threshold", 0.8, 1.5],
    ),
    "ddim-stable-diffusion": case(
        "DDIMScheduler",
        SCALED | {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1},
        "ddim",
        "scaled_linear_vp",
        offset=1,
    ),
    "ddim-cosine": case("DDIMScheduler", COSINE | {"clip_sample": False}, "ddim", "cosine_vp"),
    "ddpm": case("DDPMScheduler", DDIM | {"variance_type": "fixed_small"}, "ddpm"),
    "ddpm-large": case("DDPMScheduler", DDIM | {"variance_type": "fixed_large"}, "ddpm", variance="fixed_large"),
    "ddpm-clip": case("DDPMScheduler", LINEAR | {"clip_sample": True}, "ddpm", clip=1.0),
    "ddpm-data": case("DDPMScheduler", DDIM | {"prediction_type": "sample"}, "ddpm", prediction="data"),
    "ddpm-v-cosine": case(
        "DDPMScheduler",
        COSINE | {"clip_sample": False, "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
        "ddpm",
        "cosine_vp",
        prediction="v",
        spacing="trailing",
    ),
    "dpm-linspace": case("DPMSolverMultistepScheduler", LINEAR | DPM, "dpm_solver_pp", spacing="linspace"),
    "dpm-leading": case(
        "DPMSolverMultistepScheduler",
        LINEAR | DPM | {"timestep_spacing": "leading"},
        "dpm_solver_pp",
        spacing="leading",
    ),
    "dpm-trailing-v": case(
        "DPMSolverMultistepScheduler",
        SCALED | DPM | {"timestep_spacing": "trailing", "prediction_type": "v_prediction"},
        "dpm_solver_pp",
        "scaled_linear_vp",
        schedule_options={"final_alpha_one": True},
        spacing="trailing",
        prediction="v",
    ),
    "dpm-10": case("DPMSolverMultistepScheduler", LINEAR | DPM, "dpm_solver_pp", spacing="linspace", steps=10),
    "dpm-threshold": case(
        "DPMSolverMultistepScheduler",
        LINEAR | DPM | {"thresholding": True, "dynamic_thresholding_ratio": 0.8, "sample_max_value": 1.5},
        "dpm_solver_pp",
        spacing="linspace",
        clip=["dynamic_threshold", 0.8, 1.5],
    ),
    "flow": case("FlowMatchEulerDiscreteScheduler", {}, "euler", "rectified_flow", spacing="linspace"),
    "flow-shift": case(
        "FlowMatchEulerDiscreteScheduler",
        {"shift": 3.0},
        "euler",
        "rectified_flow",
        schedule_options={"shift": 3.0},
        sigmas=np.linspace(1.0, 1.0 / STEPS, STEPS).tolist(),
        spacing="trailing",
    ),
    "heun": case("HeunDiscreteScheduler", LINEAR | {"timestep_spacing": "trailing"}, "heun", spacing="trailing"),
    "heun-karras": case("HeunDiscreteScheduler", LINEAR | {"use_karras_sigmas": True}, "heun", spacing="karras"),
    "edm-euler": case("EDMEulerScheduler", {}, "euler", "edm", prediction="edm"),
}


def run(spec: dict[str, Any], weights: dict[str, np.ndarray], noise: np.ndarray, z: np.ndarray) -> np.ndarray:
    """States before, between and after the network calls, `[calls + 1, BATCH, *SHAPE]`, x = alpha x_0 + sigma eps."""
    scheduler = getattr(diffusers, spec["scheduler"])(**spec["config"])
    if spec["sigmas"] is None:
        scheduler.set_timesteps(spec["steps"])
    else:
        scheduler.set_timesteps(sigmas=spec["sigmas"])
    w = {key: torch.tensor(value) for key, value in weights.items()}
    heun = spec["scheduler"] == "HeunDiscreteScheduler"
    edm = spec["scheduler"] == "EDMEulerScheduler"
    scale = 1.0 if edm else 1e-3
    sigmas = scheduler.sigmas.double() if heun else None
    x = torch.tensor(noise)
    if heun:  # its state is x / alpha, sigma / alpha = sigmas
        x = x * torch.sqrt(1 + sigmas[0] ** 2)
    states = [noise]
    for index, t in enumerate(scheduler.timesteps):
        inputs = scheduler.scale_model_input(x, t) if heun or edm else x
        hidden = torch.tanh(inputs.reshape(BATCH, DIM) @ w["w1"] + scale * t.double() * w["time"] + w["bias"])
        options: dict[str, Any] = {}
        if spec["scheduler"] == "DDIMScheduler":
            # Our noise direction follows from the clipped data, diffusers' only on request.
            options = {
                "use_clipped_model_output": True,
                "eta": spec["eta"],
                "variance_noise": torch.tensor(z[index]) if spec["eta"] else None,
            }
        if spec["scheduler"] == "DDPMScheduler":
            draw = torch.tensor(z[index])
            scheduling_ddpm.randn_tensor = lambda *_, draw=draw, **__: draw
        x = scheduler.step((hidden @ w["w2"]).reshape(x.shape), t, x, **options).prev_sample
        shown = x
        if heun:
            shown = x / torch.sqrt(1 + sigmas[index + 1] ** 2)
        states.append(shown.double().numpy())
    return np.stack(states)


def main() -> None:
    rng = np.random.default_rng(0)
    weights = {
        "w1": 0.5 * rng.standard_normal((DIM, HIDDEN)),
        "w2": 0.4 * rng.standard_normal((HIDDEN, DIM)),
        "time": rng.standard_normal(HIDDEN),
        "bias": 0.3 * rng.standard_normal(HIDDEN),
    }
    noise, z = rng.standard_normal((BATCH, *SHAPE)), rng.standard_normal((STEPS, BATCH, *SHAPE))
    arrays = {f"weights/{key}": value for key, value in weights.items()} | {"noise": noise, "step_noise": z}
    for name, spec in CASES.items():
        arrays[f"states/{name}"] = run(spec, weights, noise, z)
    np.savez_compressed(HERE / "diffusers.npz", **arrays)
    about = {"diffusers": diffusers.__version__, "torch": torch.__version__, "numpy": np.__version__, "cases": CASES}
    (HERE / "diffusers.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
