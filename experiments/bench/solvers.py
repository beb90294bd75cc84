"""Rounds of every solver on the shipped digits model at one tolerance: secant, and secant with the prior."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import track

import pcm_jax as pcm
from experiments.common import study
from experiments.common.figures import write_result
from pcm_jax import solvers
from pcm_jax.pretrained import Pretrained
from pcm_jax.solvers import Solver
from pcm_jax.types import Array, Cond, ModelFn, Params

COMMAND = "make bench ARGS='--studies solvers'"
TOL = 1e-2
BATCH = 8


@dataclasses.dataclass(frozen=True)
class EDMView:
    """A VP epsilon model seen as a data prediction of x_0 + sigma eps: x_vp = x / sqrt(1 + sigma^2) at its time."""

    model_fn: ModelFn
    alphas_cumprod: tuple[float, ...]

    def __call__(self, params: Params, x: Array, t: Array, cond: Cond) -> Array:
        table = 0.5 * np.log(1.0 / np.asarray(self.alphas_cumprod) - 1.0)
        time = jnp.interp(4.0 * t, jnp.asarray(table), jnp.arange(len(table), dtype=x.dtype))
        sigma = jnp.exp(4.0 * t).reshape((-1,) + (1,) * (x.ndim - 1))
        return x - sigma * self.model_fn(params, x / jnp.sqrt(1.0 + sigma**2), time, cond)


def tables(model: Pretrained) -> dict[str, Solver]:
    """A few dozen network calls of each method, in the model's own schedule."""
    vp: Any = model.schedule
    clip: dict[str, Any] = {"prediction": model.prediction, "clip": model.clip}
    even: dict[str, Any] = clip | {"spacing": "trailing"}
    # Methods in the noise prediction alone know no clip.
    free: dict[str, Any] = {"prediction": model.prediction}
    return study.solvers(model) | {
        "DDIM-50, clip and raw noise": solvers.ddim(vp, 50, clipped_noise=False, **clip),
        "Euler ancestral-50": solvers.euler_ancestral(vp, 50, **even),
        "Heun-25": solvers.heun(vp, 25, **even),
        "DPM2-25": solvers.dpm2(vp, 25, **even),
        "DPM2 ancestral-25": solvers.dpm2(vp, 25, ancestral=True, **even),
        "LMS-50": solvers.lms(vp, 50, **even),
        "PNDM-50": solvers.pndm(vp, 50, offset=1, **free),
        "DEIS-20": solvers.deis(vp, 20, order=3, **even),
        "DPM-Solver++ 1-20": solvers.dpm_solver_pp(vp, 20, order=1, **clip),
        "DPM-Solver++ 3M-20": solvers.dpm_solver_pp(vp, 20, order=3, **clip),
        "SDE-DPM-Solver++ 2M-50": solvers.dpm_solver_pp(vp, 50, sde=True, **clip),
        "UniPC-2, 20": solvers.unipc(vp, 20, **clip),
        "UniPC-3, 20": solvers.unipc(vp, 20, order=3, **clip),
    }


def churned(model: Pretrained) -> dict[str, Solver]:
    """EDM's sampler, and the one of AlphaFold 3 (churn 0.8, step scale 1.5) at this model's noise levels."""
    vp: Any = model.schedule
    ends = np.sqrt(1.0 / np.asarray(vp.alphas_cumprod)[[0, -1]] - 1.0)
    # Churn raises the first level by up to sqrt(2) - 1, AlphaFold 3's by 0.8.
    edm, folds = (pcm.schedules.edm(sigma_min=float(ends[0]), sigma_max=float(ends[1] / top)) for top in (1.42, 1.8))
    levels = np.append(np.exp(4 * folds.times(200, "karras")), 0.0)
    options: dict[str, Any] = {"prediction": "data", "clip": model.clip}
    return {
        "EDM stochastic Heun-50": solvers.edm_stochastic(edm, 50, s_churn=10.0, s_noise=1.003, **options),
        "AlphaFold 3's-200": solvers.edm_stochastic(
            folds,
            200,
            order=1,
            gamma=np.where(levels[1:] > 1.0, 0.8, 0.0),
            s_noise=1.003,
            step_scale=1.5,
            **options,
        ),
    }


def measure(case: study.Problem, name: str) -> list[dict[str, Any]]:
    """A row for each way to solve it."""
    reference = np.asarray(case.sequential().sample)
    ways: dict[str, dict[str, Any]] = {"secant": {}, "secant + prior": {"prior": case.model.prior}}
    about = {"solver": name, "steps": len(case.solver), "depth": case.solver.depth, "tol": TOL}
    return [
        about | {"way": way} | study.row(case.picard(tol=TOL, **options), reference) for way, options in ways.items()
    ]


def run(seed: int, quick: bool, console: Console) -> None:
    """All solvers."""
    model = pcm.pretrained.load("digits")
    vp: Any = model.schedule
    view = dataclasses.replace(model, model_fn=EDMView(model.model_fn, vp.alphas_cumprod))
    cases = [(model, item) for item in tables(model).items()] + [(view, item) for item in churned(model).items()]
    rows: list[dict[str, Any]] = []
    for who, (name, solver) in track(cases[:1] if quick else cases, "solvers", console=console):
        found = measure(study.problem(who, solver, batch=BATCH, seed=seed), name)
        rows += found
        console.print(name, len(solver), *(f"{row['rounds_mean']:.1f} {row['result']}" for row in found))
    if not quick:
        write_result("bench_solvers", {"rows": rows}, config={"tol": TOL, "batch": BATCH}, seed=seed, command=COMMAND)
