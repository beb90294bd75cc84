"""Configurations of diffusers' schedulers, and what stands for a network and for noise: both halves of the comparison.

No PyTorch, no JAX: `make_schedulers.py` runs diffusers' own loops over these, `experiments/parity/schedulers.py` ours.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

SHAPE = (2, 3, 4, 4)
ROWS = 128
"""Network calls that noise is drawn for: as many as any case has."""

MOVES = 1e-5
"""Of the largest value: where diffusers' own steps, computed in float64, end further off, float32 coefficients cancel,
as at the end of the cosine schedule with sigma / alpha = 2e4. There ours may be the other."""

CUT = 101
"""Every so manieth case is committed with its result, for the ordinary tests."""


class Case(NamedTuple):
    """One run. call: arguments of `set_timesteps`."""

    name: str
    config: dict[str, Any]
    steps: int
    call: dict[str, Any]


def noise() -> tuple[np.ndarray, np.ndarray]:
    """Of the first state, and of every step `[ROWS, *SHAPE]`."""
    rng = np.random.default_rng(0)
    return rng.standard_normal(SHAPE), rng.standard_normal((ROWS, *SHAPE))


def network(x: Any, t: Any, xp: Any) -> Any:
    """A prediction, of NumPy, JAX or PyTorch; t broadcasts against x."""
    return 0.35 * x + 0.2 * xp.sin(3 * x + t / 200) + 0.05 * xp.cos(t / 50)


_SPACINGS = ("leading", "trailing", "linspace")
_STEPS = (1, 7, 20, 50)
_FEW = {
    "DEISMultistepScheduler": (1, 20),
    "UniPCMultistepScheduler": (1, 20),
    "LMSDiscreteScheduler": (1, 7, 20),  # they integrate numerically
}
_BETAS: tuple[dict[str, Any], ...] = (
    {"beta_schedule": "linear"},
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    {"beta_schedule": "squaredcos_cap_v2"},
)
_SIGMAS: tuple[dict[str, bool], ...] = (
    {},
    {"use_karras_sigmas": True},
    {"use_exponential_sigmas": True},
    {"use_beta_sigmas": True},
)
_TWO, _THREE = ("epsilon", "v_prediction"), ("epsilon", "v_prediction", "sample")
_BOTH = (False, True)
_FINAL = ("zero", "sigma_min")

_GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "DDIMScheduler": {
        "steps_offset": (0, 1),
        "prediction_type": _THREE,
        "clip_sample": _BOTH,
        "set_alpha_to_one": _BOTH,
    },
    "DDPMScheduler": {
        "prediction_type": _TWO,
        "clip_sample": _BOTH,
        "variance_type": ("fixed_small", "fixed_large", "fixed_small_log"),
    },
    "DPMSolverMultistepScheduler": {
        "prediction_type": _THREE,
        "solver_order": (1, 2, 3),
        "use_karras_sigmas": _BOTH,
        "lower_order_final": _BOTH,
        "euler_at_final": _BOTH,
        "final_sigmas_type": _FINAL,
    },
    "EulerDiscreteScheduler": {
        "prediction_type": _TWO,
        "use_karras_sigmas": _BOTH,
        "final_sigmas_type": _FINAL,
        "steps_offset": (0, 1),
    },
    "EulerAncestralDiscreteScheduler": {"prediction_type": _TWO, "steps_offset": (0, 1)},
    "PNDMScheduler": {
        "prediction_type": _TWO,
        "steps_offset": (0, 1),
        "skip_prk_steps": _BOTH,
        "set_alpha_to_one": _BOTH,
    },
    "LMSDiscreteScheduler": {"prediction_type": _THREE, "sigmas": _SIGMAS},
    "HeunDiscreteScheduler": {"prediction_type": _THREE, "sigmas": _SIGMAS, "clip_sample": _BOTH},
    "KDPM2DiscreteScheduler": {"prediction_type": _TWO, "sigmas": _SIGMAS},
    "KDPM2AncestralDiscreteScheduler": {"prediction_type": _TWO, "sigmas": _SIGMAS},
    "DEISMultistepScheduler": {
        "prediction_type": _THREE,
        "solver_order": (1, 2, 3),
        "sigmas": _SIGMAS,
        "lower_order_final": _BOTH,
    },
    "UniPCMultistepScheduler": {
        "prediction_type": _THREE,
        "solver_order": (1, 2, 3),
        "solver_type": ("bh1", "bh2"),
        "lower_order_final": _BOTH,
        "final_sigmas_type": _FINAL,
    },
}
"""Every combination of these with every spacing, beta schedule and number of steps."""


_STABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
_STABLE |= {"set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None}
_STABLE |= {"clip_sample": False}
NAMED = {
    "stable-diffusion-v1-5": Case("PNDMScheduler", _STABLE, 50, {}),
    "stable-diffusion-xl-base-1.0": Case(
        "EulerDiscreteScheduler",
        _STABLE
        | {"interpolation_type": "linear", "prediction_type": "epsilon", "sample_max_value": 1.0}
        | {"timestep_spacing": "leading", "use_karras_sigmas": False},
        50,
        {},
    ),
    "stable-diffusion-2-1": Case("DDIMScheduler", _STABLE | {"prediction_type": "v_prediction"}, 50, {}),
    "stable-diffusion-3.5": Case(
        "FlowMatchEulerDiscreteScheduler", {"num_train_timesteps": 1000, "shift": 3.0}, 28, {}
    ),
    "flux.1-dev": Case(
        "FlowMatchEulerDiscreteScheduler",
        {"base_image_seq_len": 256, "base_shift": 0.5, "max_image_seq_len": 4096, "max_shift": 1.15}
        | {"num_train_timesteps": 1000, "shift": 3.0, "use_dynamic_shifting": True},
        28,
        {"mu": 1.15},
    ),
}
"""What these models' own scheduler_config.json says; always in the cut."""


def _combinations(options: dict[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*options.values()):
        chosen = dict(zip(options, values, strict=True))
        yield chosen | chosen.pop("sigmas", {})


def _others() -> Iterator[Case]:
    """What multiplies with little: options of one class, and pairs of them."""
    dpm, unipc = "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"
    zero_snr = (
        "DDIMScheduler",
        "DDPMScheduler",
        dpm,
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
        unipc,
    )
    for betas in _BETAS[:2]:
        for name, spacing in itertools.product(zero_snr, _SPACINGS):
            config = {"rescale_betas_zero_snr": True, "timestep_spacing": spacing, "prediction_type": "v_prediction"}
            yield Case(name, betas | config, 20, {})
        threshold = {"thresholding": True, "sample_max_value": 1.5, "dynamic_thresholding_ratio": 0.9}
        for name in ("DDIMScheduler", "DDPMScheduler", dpm, unipc, "DEISMultistepScheduler"):
            for prediction in _THREE:
                yield Case(name, betas | threshold | {"clip_sample": False, "prediction_type": prediction}, 20, {})
        kinds = {"algorithm_type": ("dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++")}
        options = {"solver_type": ("midpoint", "heun"), "solver_order": (1, 2), "final_sigmas_type": _FINAL}
        for config in _combinations(kinds | options | {"timestep_spacing": _SPACINGS, "prediction_type": _THREE}):
            yield Case(dpm, betas | config, 20, {})
        for sigmas, final, prediction in itertools.product((*_SIGMAS[1:], {"use_lu_lambdas": True}), _FINAL, _TWO):
            config = betas | sigmas | {"final_sigmas_type": final, "prediction_type": prediction}
            for steps in (1, 7, 20):
                yield Case(dpm, config, steps, {})
                if "use_lu_lambdas" not in sigmas:
                    yield Case("EulerDiscreteScheduler", config, steps, {})
                    yield Case(unipc, config, steps, {})
        yield Case(unipc, betas | {"predict_x0": False, "final_sigmas_type": "sigma_min"}, 20, {})
        yield Case(unipc, betas | {"disable_corrector": [0, 1, 7]}, 20, {})
        for extra in (
            {"timestep_type": "continuous", "prediction_type": "v_prediction"},
            {"interpolation_type": "log_linear"},
        ):
            yield Case("EulerDiscreteScheduler", betas | extra, 20, {})
        yield Case(
            "EulerDiscreteScheduler", betas | {"use_karras_sigmas": True, "sigma_min": 0.1, "sigma_max": 9.0}, 20, {}
        )
    yield Case("DDPMScheduler", {"beta_schedule": "sigmoid"}, 20, {})
    yield Case(dpm, {"beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -5.1}, 20, {})
    for name in (dpm, unipc, "DEISMultistepScheduler"):
        for shift, order, steps in itertools.product((1.0, 3.0), (1, 2, 3), (1, 7, 20)):
            flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": shift}
            yield Case(name, flow | {"solver_order": order}, steps, {})
    grid = {"shift": (1.0, 3.0), "sigmas": _SIGMAS, "stochastic_sampling": _BOTH, "shift_terminal": (None, 0.1)}
    for config in _combinations(grid):
        for steps in _STEPS:
            if steps > 1 or not config["shift_terminal"]:
                yield Case("FlowMatchEulerDiscreteScheduler", config, steps, {})
    for kind, mu in itertools.product(("exponential", "linear"), (0.6, 1.15)):
        config = {"use_dynamic_shifting": True, "time_shift_type": kind}
        yield Case("FlowMatchEulerDiscreteScheduler", config, 20, {"mu": mu})


def cases() -> Iterator[Case]:
    """All of them, some thirteen thousand."""
    yield from NAMED.values()
    for name, options in _GRIDS.items():
        for betas in _BETAS:
            for config in _combinations({"timestep_spacing": _SPACINGS} | options):
                for steps in _FEW.get(name, _STEPS):
                    yield Case(name, betas | config, steps, {})
    yield from _others()


def cut() -> list[int]:
    """Numbers of the cases that the ordinary tests run: some of every kind."""
    return [*range(len(NAMED)), *range(len(NAMED), sum(1 for _ in cases()), CUT)]
