"""Write diffusers.npz and diffusers.json: whole trajectories of diffusers' own schedulers, for test_diffusers.py.

Needs an environment of its own (1.3 GB):

    python -m venv /tmp/ref && /tmp/ref/bin/pip install torch==2.13.0 diffusers==0.42.1
    /tmp/ref/bin/python tests/reference/make_diffusers.py

The network is tanh(x W1 + s t w + b) W2 in float64, s a time scale; its first units make it about 1.1 x, as a noise
prediction must be for the states to stay of order 1 and the tanh out of saturation. The schedulers' own tables are
float32, and DPM-Solver++ and EDM step in float32. Every case says with which arguments our solver is the same method
(`ours`).

Left out, because there the scheduler disagrees with its own grid:

- DDIM, linspace: its previous timestep is t - N // T, not the next one of the grid (DDPM looks it up, and is here).
- DDPM, fixed_large, trailing: noise in the last step, since its t > 0 although it lands on clean data.
- Heun, linspace without Karras: times between two integers, where it interpolates sigma, not its logarithm.
- Heun, Karras on other spacings: its smallest sigma is that of the spacing's last time, not of training index 0.
- Flow, shift without explicit sigmas: shifted twice.

Two are made to agree: DPM-Solver++ with Karras sigmas would round the network's times, here the network gets those that
belong to the sigmas; DDIM with a clip takes its noise direction from the unclipped data unless told
`use_clipped_model_output`.
"""

from __future__ import annotations

import json
from functools import partial
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
SD = {"steps_offset": 1}
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
CLIP = {"clip_sample": True}
V = {"prediction_type": "v_prediction"}
DATA = {"prediction_type": "sample"}
THRESHOLD = {"thresholding": True, "dynamic_thresholding_ratio": 0.8, "sample_max_value": 1.5}
OUR_THRESHOLD = ["dynamic_threshold", 0.8, 1.5]
KARRAS = {"use_karras_sigmas": True}
LEADING, TRAILING, LINSPACE = ({"timestep_spacing": name} for name in ("leading", "trailing", "linspace"))
FIXED: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {"clip_sample": False},
    "DDPMScheduler": {"clip_sample": False},
    "DPMSolverMultistepScheduler": {"algorithm_type": "dpmsolver++", "solver_order": 2, "final_sigmas_type": "zero"},
}


def case(
    scheduler: str, solver: str, config: dict[str, Any], schedule: str = "linear_vp", **ours: Any
) -> dict[str, Any]:
    """One entry of diffusers.json; `ours` are the options of `solver`, but for what builds or drives both sides."""
    extra = {key: ours.pop(key) for key in ("sigmas", "steps") if key in ours}
    schedule_options = ours.pop("schedule_options", {})
    return {
        "scheduler": scheduler,
        "config": FIXED.get(scheduler, {}) | config,
        "eta": ours.get("eta", 0.0),
        "sigmas": extra.get("sigmas"),
        "steps": extra.get("steps", STEPS),
        "ours": {"solver": solver, "schedule": schedule, "schedule_options": schedule_options, "options": ours},
    }


ddim = partial(case, "DDIMScheduler", "ddim")
ddpm = partial(case, "DDPMScheduler", "ddpm")
dpm = partial(case, "DPMSolverMultistepScheduler", "dpm_solver_pp")
heun = partial(case, "HeunDiscreteScheduler", "heun")
flow = partial(case, "FlowMatchEulerDiscreteScheduler", "euler", schedule="rectified_flow")
CASES = {
    "ddim": ddim(LINEAR),
    "ddim-eta": ddim(LINEAR, eta=0.5),
    "ddim-eta1": ddim(LINEAR, eta=1.0),
    "ddim-trailing": ddim(LINEAR | TRAILING, spacing="trailing"),
    "ddim-v": ddim(LINEAR | V, prediction="v"),
    "ddim-data": ddim(LINEAR | DATA, prediction="data"),
    "ddim-clip": ddim(LINEAR | CLIP, clip=1.0),
    "ddim-threshold": ddim(LINEAR | THRESHOLD, clip=OUR_THRESHOLD),
    "ddim-stable-diffusion": ddim(SCALED | SD | {"set_alpha_to_one": False}, "scaled_linear_vp", offset=1),
    "ddim-cosine": ddim(COSINE, "cosine_vp"),
    "ddpm": ddpm(LINEAR | {"variance_type": "fixed_small"}),
    "ddpm-large": ddpm(LINEAR | {"variance_type": "fixed_large"}, variance="fixed_large"),
    "ddpm-linspace": ddpm(LINEAR | LINSPACE, spacing="linspace"),
    "ddpm-clip": ddpm(LINEAR | CLIP, clip=1.0),
    "ddpm-threshold": ddpm(LINEAR | THRESHOLD, clip=OUR_THRESHOLD),
    "ddpm-v": ddpm(LINEAR | V, prediction="v"),
    "ddpm-data": ddpm(LINEAR | DATA, prediction="data"),
    "ddpm-cosine": ddpm(COSINE, "cosine_vp"),
    "ddpm-v-cosine": ddpm(COSINE | V | TRAILING, "cosine_vp", prediction="v", spacing="trailing"),
    "dpm-linspace": dpm(LINEAR | LINSPACE, spacing="linspace"),
    "dpm-leading": dpm(LINEAR | LEADING, spacing="leading"),
    "dpm-trailing": dpm(LINEAR | TRAILING, spacing="trailing"),
    "dpm-linspace-v": dpm(LINEAR | LINSPACE | V, spacing="linspace", prediction="v"),
    "dpm-trailing-v": dpm(
        SCALED | TRAILING | V,
        "scaled_linear_vp",
        schedule_options={"final_alpha_one": True},
        spacing="trailing",
        prediction="v",
    ),
    "dpm-stable-diffusion": dpm(  # ends on the smallest sigma, and there at second order
        SCALED | LEADING | SD | {"final_sigmas_type": "sigma_min"},
        "scaled_linear_vp",
        spacing="leading",
        offset=1,
    ),
    "dpm-karras": dpm(LINEAR | KARRAS, spacing="karras"),
    "dpm-10": dpm(LINEAR | LINSPACE, spacing="linspace", steps=10),
    "dpm-10-leading": dpm(LINEAR | LEADING, spacing="leading", steps=10),
    "dpm-threshold": dpm(LINEAR | LINSPACE | THRESHOLD, spacing="linspace", clip=OUR_THRESHOLD),
    "heun": heun(LINEAR | TRAILING, spacing="trailing"),
    "heun-leading": heun(LINEAR | LEADING, spacing="leading"),
    "heun-v": heun(LINEAR | TRAILING | V, spacing="trailing", prediction="v"),
    "heun-clip": heun(LINEAR | TRAILING | CLIP, spacing="trailing", clip=1.0),
    "heun-karras": heun(LINEAR | KARRAS, spacing="karras"),
    "flow": flow({}, spacing="linspace"),
    "flow-shift": flow(  # as the pipelines of Stable Diffusion 3 and Flux do
        {"shift": 3.0},
        schedule_options={"shift": 3.0},
        sigmas=np.linspace(1.0, 1.0 / STEPS, STEPS).tolist(),
        spacing="trailing",
    ),
    "flow-heun": case(
        "FlowMatchHeunDiscreteScheduler", "heun", {}, "rectified_flow", spacing="linspace", prediction="velocity"
    ),
    "edm-euler": case("EDMEulerScheduler", "euler", {}, "edm", prediction="edm"),
    "edm-dpm": case("EDMDPMSolverMultistepScheduler", "dpm_solver_pp", {}, "edm", prediction="edm"),
}


def run(spec: dict[str, Any], weights: dict[str, np.ndarray], noise: np.ndarray, z: np.ndarray) -> np.ndarray:
    """States before, between and after the network calls, `[calls + 1, BATCH, *SHAPE]`, x = alpha x_0 + sigma eps."""
    scheduler = getattr(diffusers, spec["scheduler"])(**spec["config"])
    given = {"sigmas": spec["sigmas"]} if spec["sigmas"] else {"num_inference_steps": spec["steps"]}
    scheduler.set_timesteps(**given)
    w = {key: torch.tensor(value) for key, value in weights.items()}
    is_heun, is_edm = spec["scheduler"] == "HeunDiscreteScheduler", spec["scheduler"].startswith("EDM")
    times = scheduler.timesteps.double().numpy()
    if spec["scheduler"] == "DPMSolverMultistepScheduler" and scheduler.config.use_karras_sigmas:
        table = scheduler.alphas_cumprod.double().numpy()
        times = np.interp(scheduler.sigmas[:-1].double().log(), np.log(1 / table - 1) / 2, np.arange(len(table)))
    # Heun's state is x / alpha, and its sigmas are sigma / alpha.
    scales = torch.sqrt(1 + scheduler.sigmas.double() ** 2) if is_heun else torch.ones(len(times) + 1)
    x = torch.tensor(noise) * scales[0]
    states = [noise]
    for index, t in enumerate(scheduler.timesteps):
        inputs = scheduler.scale_model_input(x, t) if is_heun or is_edm else x
        hidden = inputs.reshape(BATCH, DIM) @ w["w1"] + (1.0 if is_edm else 1e-3) * times[index] * w["time"] + w["bias"]
        draw = torch.tensor(z[index % STEPS])
        options: dict[str, Any] = {}
        if spec["scheduler"] == "DDIMScheduler":
            options = {"eta": spec["eta"], "variance_noise": draw if spec["eta"] else None}
            options["use_clipped_model_output"] = True
        if spec["scheduler"] == "DDPMScheduler":
            scheduling_ddpm.randn_tensor = lambda *_, draw=draw, **__: draw
        x = scheduler.step((torch.tanh(hidden) @ w["w2"]).reshape(x.shape), t, x, **options).prev_sample
        states.append((x / scales[index + 1]).double().numpy())
    return np.stack(states)


def main() -> None:
    rng = np.random.default_rng(0)
    weights = {
        "w1": 0.5 * rng.standard_normal((DIM, HIDDEN)),
        "w2": 0.4 * rng.standard_normal((HIDDEN, DIM)),
        "time": rng.standard_normal(HIDDEN),
        "bias": 0.3 * rng.standard_normal(HIDDEN),
    }
    weights["w1"][:, :DIM], weights["w2"][:DIM] = 0.1 * np.eye(DIM), 11.0 * np.eye(DIM)
    weights["time"][:DIM] = weights["bias"][:DIM] = 0.0
    noise, z = rng.standard_normal((BATCH, *SHAPE)), rng.standard_normal((STEPS, BATCH, *SHAPE))
    arrays = {f"weights/{key}": value for key, value in weights.items()} | {"noise": noise, "step_noise": z}
    arrays |= {f"states/{name}": run(spec, weights, noise, z) for name, spec in CASES.items()}
    np.savez_compressed(HERE / "diffusers.npz", **arrays)
    about = {"diffusers": diffusers.__version__, "torch": torch.__version__, "numpy": np.__version__, "cases": CASES}
    (HERE / "diffusers.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
