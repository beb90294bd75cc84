"""Whole trajectories against diffusers' schedulers of the same name (made by reference/make_diffusers.py)."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm

REFERENCE = Path(__file__).parents[1] / "reference"
CASES = json.loads((REFERENCE / "diffusers.json").read_text())["cases"]
ARRAYS = dict(np.load(REFERENCE / "diffusers.npz"))


def network(params, x, t, cond):
    """tanh(x W1 + s t w + b) W2; EDM's time is ln(sigma) / 4, the others' 0..1000."""
    flat = x.reshape(x.shape[0], -1)
    time = (cond * t)[:, None] * params["time"][None]
    return (jnp.tanh(flat @ params["w1"] + time + params["bias"][None]) @ params["w2"]).reshape(x.shape)


def build(case):
    ours = case["ours"]
    schedule = getattr(pcm.schedules, ours["schedule"])(**ours["schedule_options"])
    options = dict(ours["options"])
    if isinstance(options.get("clip"), list):
        kind, *arguments = options["clip"]
        options["clip"] = getattr(pcm.solvers, kind)(*arguments)
    return pcm.solvers.by_name(ours["solver"], schedule, case["steps"], **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_trajectory(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        case, solver = CASES[name], build(CASES[name])
        params = {
            key.removeprefix("weights/"): jnp.asarray(value, dtype) for key, value in ARRAYS.items() if "/" in key
        }
        noise = jnp.asarray(ARRAYS["noise"], dtype)
        scale = jnp.full(noise.shape[0], 1.0 if case["ours"]["schedule"] == "edm" else 1e-3)
        out = pcm.sample_sequential(
            network,
            params,
            noise,
            solver,
            cond=scale,
            step_noise=jnp.asarray(ARRAYS["step_noise"], dtype)[: len(solver)] if solver.stochastic else None,
            return_trajectory=True,
        )
    expected = ARRAYS[f"states/{name}"]
    assert out.trajectory.shape == expected.shape
    error = np.max(np.abs(np.asarray(out.trajectory) - expected)) / np.max(np.abs(expected))
    assert error < 1e-4, error
    final = np.max(np.abs(np.asarray(out.sample) - expected[-1])) / np.max(np.abs(expected[-1]))
    assert final < 1e-4, final


def test_the_reference_covers_every_solver_and_prediction():
    solvers = {case["ours"]["solver"] for case in CASES.values()}
    predictions = {case["ours"]["options"].get("prediction") for case in CASES.values()}
    assert solvers == {"ddim", "ddpm", "dpm_solver_pp", "euler", "heun"}
    assert {"data", "v", "edm"} <= predictions
    assert min(case["steps"] for case in CASES.values()) < 50 <= max(case["steps"] for case in CASES.values())
