"""Random analytic networks in which nothing is kind, and how far their certified samples are off.

A case is a network s tanh(k x W + sin(6 t + p)) + l x with random weights, up to stiff (k) and expansive (l, s), under
a random solver, clip, window, slope, first guess, adapter and switch, with a tolerance between 1e-4 and 0.1. Half of
the cases run in float64, where round-off is no excuse; in the others a sample may be off by what float32 loses in the
sequential sampler itself.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pcm_jax as pcm
from pcm_jax.solvers import Solver
from pcm_jax.switching import FeatureSpace

BATCH, DIM = 8, 4
_VP, _FLOW = pcm.schedules.linear_vp(), pcm.schedules.rectified_flow()
SOLVERS: dict[str, Solver] = {
    "ddim-50": pcm.solvers.ddim(_VP, 50),
    "ddim-50-clip": pcm.solvers.ddim(_VP, 50, clip=1.0),
    "ddim-20-data": pcm.solvers.ddim(_VP, 20, prediction="data"),
    "ddim-30-v": pcm.solvers.ddim(_VP, 30, prediction="v"),
    "ddpm-50": pcm.solvers.ddpm(_VP, 50),
    "ddpm-50-clip": pcm.solvers.ddpm(_VP, 50, clip=1.0, prediction="data"),
    "dpm++-20": pcm.solvers.dpm_solver_pp(_VP, 20, prediction="data"),
    "euler-30": pcm.solvers.euler(_FLOW, 30, prediction="velocity"),
    "heun-12": pcm.solvers.heun(_VP, 12, prediction="v"),
}
WINDOWS = (None, None, 8, 3)
SLOPES = {"secant": pcm.linearization.secant(), "identity": pcm.linearization.identity()}
SWITCHES = {
    "never": None,
    "after(2)": pcm.switching.after(2),
    "frontier(4)": pcm.switching.frontier(4),
    "linear(1, 5)": pcm.switching.linear(1.0, 5),
}


def network(params: Any, x: jax.Array, t: jax.Array, cond: Any) -> jax.Array:
    """`[B, D]` -> `[B, D]`."""
    phase = 6 * t.reshape(-1, 1).astype(x.dtype) / 1000 + params["phase"].astype(x.dtype)
    inner = params["stiff"].astype(x.dtype) * (x @ params["weights"].astype(x.dtype)) + jnp.sin(phase)
    return params["size"].astype(x.dtype) * jnp.tanh(inner) + params["line"].astype(x.dtype) * x


@dataclasses.dataclass(frozen=True)
class Program:
    """What is compiled together; the rest of a case is arrays."""

    solver: str
    window: int | None
    slope: str
    switch: str
    guess: bool


def draw_program(seed: int) -> Program:
    """The program of a group of cases."""
    rng = np.random.default_rng((seed, 1))
    solver = str(rng.choice(sorted(SOLVERS)))
    switch = str(rng.choice(sorted(SWITCHES))) if rng.random() < 0.5 else "never"
    window = WINDOWS[int(rng.integers(len(WINDOWS)))]
    return Program(solver, window, str(rng.choice(sorted(SLOPES))), switch, bool(rng.random() < 0.3))


def draw_params(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A network's, as float64."""
    return {
        "weights": rng.normal(size=(DIM, DIM)),
        "size": np.asarray(rng.choice([0.3, 1.0, 2.0, 4.0])),
        "stiff": np.asarray(rng.choice([0.5, 1.0, 4.0, 10.0])),
        "line": np.asarray(rng.choice([0.0, 0.3, 0.8, 1.2])),
        "phase": rng.normal(size=(1, DIM)),
    }


def run_case(program: Program, seed: int, index: int, dtype: str, **options: Any) -> dict[str, Any]:
    """Certified error and bound of the case's samples, `[BATCH]` each."""
    rng = np.random.default_rng((seed, 2, index))
    solver, double = SOLVERS[program.solver], np.float64
    steps = len(solver)
    params, other = draw_params(rng), draw_params(rng)
    noise = rng.normal(size=(BATCH, DIM))
    z = rng.normal(size=(steps, BATCH, DIM)) if solver.stochastic else None
    tol = float(10 ** rng.uniform(-4, -1))
    given: dict[str, Any] = {}
    if program.guess:
        given["init"] = 10 ** rng.uniform(-1, 1) * rng.normal(size=(steps + 1, BATCH, DIM))
    if rng.random() < 0.5:  # an adapter near the model, as a trained one is
        other = {name: params[name] + 0.1 * other[name] for name in params}
    tree = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (params, other, noise, z, given))
    params_, other_, noise_, z_, given_ = tree
    if SWITCHES[program.switch] is not None:
        given_ |= {"adapter": FeatureSpace(other_), "switch": SWITCHES[program.switch]}
    exact = pcm.sample_sequential(network, params_, noise_, solver, step_noise=z_)
    out = pcm.sample_picard(
        network, params_, noise_, solver, step_noise=z_, window=program.window, tol=tol,
        linearization=SLOPES[program.slope], **given_, **options,
    )  # fmt: skip
    allowance = np.zeros(BATCH)
    if dtype == "float32":
        wide = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, double)), (params_, noise_, z_))
        precise = pcm.sample_sequential(network, wide[0], wide[1], solver, step_noise=wide[2]).sample
        allowance = 4 * _rms(np.asarray(precise) - np.asarray(exact.sample, double))
        allowance = np.where(allowance > tol, np.inf, allowance)
    size = _rms(np.asarray(exact.sample, double))
    return {
        "tol": tol,
        "error": _rms(np.asarray(out.sample, double) - np.asarray(exact.sample, double)),
        "allowance": allowance + 1e-12 * size,
        "bound": np.asarray(out.error_bound, double),
        "converged": np.asarray(out.converged),
        "finite": np.isfinite(np.asarray(exact.sample)).all(axis=1),
        "rounds": np.asarray(out.stats.rounds),
        "size": size,
        "network": {name: float(value) for name, value in params.items() if value.ndim == 0},
    }


def _rms(value: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(np.square(value), axis=1))
