"""Models with known answers, and one without: what the samplers are tested on."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import pcm_jax as pcm
from pcm_jax.training.denoising import target
from pcm_jax.types import Array

VP = pcm.schedules.linear_vp()
FLOW = pcm.schedules.rectified_flow()
EDM = pcm.schedules.edm()


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Exact data prediction of sum_k w_k N(m_k, s_k^2 I) in D dimensions. Unequal weights make it skewed."""

    schedule: object
    weights: tuple[float, ...]
    means: tuple[tuple[float, ...], ...]
    scales: tuple[float, ...]

    def __call__(self, params, x: Array, t: Array, cond) -> Array:
        alpha, sigma = (jnp.asarray(v, x.dtype)[:, None] for v in self.schedule.marginals(t))
        means, scales = jnp.asarray(self.means, x.dtype), jnp.asarray(self.scales, x.dtype)
        spread = alpha**2 * scales[None] ** 2 + sigma**2
        offset = x[:, None] - alpha[:, :, None] * means[None]
        dims = x.shape[1]
        log_weight = jnp.log(jnp.asarray(self.weights, x.dtype))[None] - 0.5 * dims * jnp.log(spread)
        weight = jax.nn.softmax(log_weight - jnp.sum(offset**2, -1) / (2 * spread), axis=1)
        gain = alpha * scales[None] ** 2 / spread
        return jnp.sum(weight[:, :, None] * (means[None] + gain[:, :, None] * offset), axis=1)


def gaussian(schedule, mean=(1.0, -0.5, 2.0), scale=0.7) -> Mixture:
    return Mixture(schedule, (1.0,), (tuple(mean),), (scale,))


def gaussian_flow(schedule, noise: np.ndarray, mean=(1.0, -0.5, 2.0), scale=0.7, times=None) -> np.ndarray:
    """Where the probability-flow ODE carries `noise`: x - alpha m keeps its size in units of its own deviation."""
    alpha, sigma = schedule.marginals(np.asarray(times[:1], np.float64))
    mean = np.asarray(mean)
    return mean + scale * (noise - alpha * mean) / np.sqrt(alpha**2 * scale**2 + sigma**2)


def skewed(schedule) -> Mixture:
    return Mixture(schedule, (0.8, 0.15, 0.05), ((-1.0, 0.0, 0.5), (2.0, 1.0, -1.0), (0.5, -3.0, 2.0)), (0.3, 0.5, 0.2))


def mlp_params(key: int = 0, dim: int = 6, hidden: int = 24):
    first, second, time = jax.random.split(jax.random.key(key), 3)
    return {
        "w1": 0.5 * jax.random.normal(first, (dim, hidden)),
        "w2": 0.2 * jax.random.normal(second, (hidden, dim)),
        "time": jax.random.normal(time, (hidden,)),
    }


def mlp(params, x: Array, t: Array, cond) -> Array:
    """A nonlinear network without meaning. `cond`: None or a label `[B]` that shifts the output."""
    hidden = jnp.tanh(x @ params["w1"].astype(x.dtype) + (t[:, None] / 1000 * params["time"][None]).astype(x.dtype))
    out = hidden @ params["w2"].astype(x.dtype) + 0.5 * x
    return out if cond is None else out + 0.1 * cond[:, None].astype(x.dtype)


def noise(batch: int = 4, dim: int = 6, key: int = 11) -> Array:
    return jax.random.normal(jax.random.key(key), (batch, dim))


SOLVERS = {
    "ddim": lambda: pcm.solvers.ddim(VP, 12),
    "ddim-eta": lambda: pcm.solvers.ddim(VP, 12, eta=0.5),
    "ddim-clip": lambda: pcm.solvers.ddim(VP, 12, clip=1.0),
    "ddim-threshold": lambda: pcm.solvers.ddim(
        VP, 12, prediction="data", clip=pcm.solvers.dynamic_threshold(0.9, 1.5), clipped_noise=False
    ),
    "ddim-v": lambda: pcm.solvers.ddim(pcm.schedules.cosine_vp(), 12, prediction="v", spacing="trailing"),
    "ddim-sd": lambda: pcm.solvers.ddim(pcm.schedules.scaled_linear_vp(), 12, offset=1),
    "ddpm": lambda: pcm.solvers.ddpm(VP, 12),
    "ddpm-large": lambda: pcm.solvers.ddpm(VP, 12, variance="fixed_large", clip=1.0, prediction="data"),
    "dpm_solver_pp": lambda: pcm.solvers.dpm_solver_pp(VP, 16),
    "dpm_solver_pp-flow": lambda: pcm.solvers.dpm_solver_pp(FLOW, 12, prediction="velocity"),
    "euler": lambda: pcm.solvers.euler(FLOW, 12),
    "edm_stochastic": lambda: pcm.solvers.edm_stochastic(EDM, 7, s_churn=3.0, s_noise=1.01),
    "heun": lambda: pcm.solvers.heun(VP, 7),
    "heun-edm": lambda: pcm.solvers.heun(EDM, 7, prediction="edm"),
    "heun-flow": lambda: pcm.solvers.heun(FLOW, 7, prediction="velocity"),
    "pndm": lambda: pcm.solvers.pndm(VP, 12),
    "unipc": lambda: pcm.solvers.unipc(VP, 12, order=3),
}
"""One entry for each solver and option: an entry here is checked by every law of the conformance suite."""


def key_for(solver, seed: int = 5):
    return jax.random.key(seed) if solver.stochastic else None


_PREDICTION = {"ddim-v": "v", "dpm_solver_pp-flow": "velocity", "euler": "velocity", "heun-edm": "edm"}
_PREDICTION |= {"heun-flow": "velocity", "ddpm-large": "data", "ddim-threshold": "data", "edm_stochastic": "edm"}
_SCHEDULE = {"ddim-v": pcm.schedules.cosine_vp(), "ddim-sd": pcm.schedules.scaled_linear_vp()}
_SCHEDULE |= {name: FLOW for name in ("dpm_solver_pp-flow", "euler", "heun-flow")} | {
    "heun-edm": EDM,
    "edm_stochastic": EDM,
}


def knowing(name: str):
    """A model for SOLVERS[name] whose data prediction is its cond, whatever that solver's network predicts."""
    schedule, prediction = _SCHEDULE.get(name, VP), _PREDICTION.get(name, "epsilon")

    def model(params, x, t, cond):
        alpha, sigma = (jnp.asarray(value)[:, None] for value in schedule.marginals(t))
        if prediction == "edm":  # the network sees c_in x
            x = x * jnp.sqrt(sigma**2 + schedule.sigma_data**2)
        return target(prediction, schedule, cond, (x - alpha * cond) / sigma, alpha, sigma)

    return model
