"""Rounds, evaluations and error of every solver x slope x window x tolerance on the shipped model."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import Progress

import pcm_jax as pcm
from experiments.common import plots, study
from experiments.common.figures import RESULTS, write_result
from pcm_jax.metrics import time_call
from pcm_jax.pretrained import Pretrained
from pcm_jax.types import Array, Cond, ModelFn, Params

COMMAND = "make bench ARGS='--studies sweep'"
WINDOWS: tuple[int | None, ...] = (8, 16, 32, None)
TOLERANCES = (1e-1, 1e-2, 1e-3)
BATCH = 16


@dataclasses.dataclass(frozen=True)
class FlowView:
    """A VP epsilon model seen as the velocity model of a rectified flow, so that Euler has something to sample.

    x_flow / (1 - s) = x_vp / alpha at the VP time with sigma / alpha = s / (1 - s); velocity = eps - x_0.
    """

    model_fn: ModelFn
    alphas_cumprod: tuple[float, ...]

    def __call__(self, params: Params, x: Array, t: Array, cond: Cond) -> Array:
        flow = t / 1000.0
        table = np.sqrt(1.0 / np.asarray(self.alphas_cumprod) - 1.0)
        ratio = flow / (1.0 - flow)
        time = jnp.interp(ratio, jnp.asarray(table), jnp.arange(len(table), dtype=x.dtype))
        alpha = 1.0 / jnp.sqrt(1.0 + ratio**2)
        alpha, ratio, flow = (v.reshape((-1,) + (1,) * (x.ndim - 1)) for v in (alpha, ratio, flow))
        scaled = x / (1.0 - flow)
        eps = self.model_fn(params, alpha * scaled, time, cond)
        return eps - (scaled - ratio * eps)


def cases(model: Pretrained, seed: int) -> dict[str, study.Problem]:
    """The demo's four solvers, one between DDIM and DDPM, Heun, and Euler on the flow view of the model."""
    options: dict[str, Any] = {"prediction": model.prediction, "clip": model.clip}
    table = study.solvers(model) | {
        "DDIM-50, eta 0.5": pcm.solvers.ddim(model.schedule, 50, eta=0.5, **options),
        "Heun-20": pcm.solvers.heun(model.schedule, 20, **options),
    }
    made = {name: study.problem(model, solver, batch=BATCH, seed=seed) for name, solver in table.items()}
    assert isinstance(model.schedule, pcm.schedules.VP)
    # The flow's times end where the VP model's training did: sigma / (alpha + sigma) of its noisiest step.
    alpha, sigma = map(np.asarray, model.schedule.marginals(np.array([999.0])))
    times = list(1000.0 * np.linspace(float(sigma[0] / (alpha[0] + sigma[0])), 0.0, 51)[:-1])
    view = dataclasses.replace(model, model_fn=FlowView(model.model_fn, model.schedule.alphas_cumprod))
    euler = pcm.solvers.euler(pcm.schedules.rectified_flow(), 50, clip=model.clip, spacing=times)
    return made | {"Euler-50": study.problem(view, euler, batch=BATCH, seed=seed)}


def sweep(case: study.Problem, name: str, windows: tuple[int | None, ...], on_gpu: bool) -> list[dict[str, Any]]:
    """All slopes, windows and tolerances for one solver."""
    reference = np.asarray(case.sequential().sample)
    sequential = time_call(case.sequential).median if on_gpu else None
    rows = []
    for slope, linearization in study.SLOPES.items():
        for window in windows:
            if window is not None and window >= len(case.solver):
                continue
            for tol in TOLERANCES:
                call = functools.partial(case.picard, window=window, tol=tol, linearization=linearization)
                out = call()
                seconds = time_call(call, repeats=3).median if on_gpu else None
                row = study.row(out, reference, seconds)
                rows.append(
                    {"solver": name, "steps": len(case.solver), "slope": slope, "window": window, "tol": tol} | row
                )
                rows[-1]["sequential_seconds"] = sequential
    return rows


def run(seed: int, quick: bool, console: Console) -> None:
    """The whole grid; seconds only on an accelerator, where they mean something."""
    model = pcm.pretrained.load("digits")
    on_gpu = jax.default_backend() != "cpu"
    table = cases(model, seed)
    table = dict(list(table.items())[:1]) if quick else table
    rows: list[dict[str, Any]] = []
    with Progress(console=console) as bar:
        task = bar.add_task("solvers", total=len(table))
        for name, case in table.items():
            bar.update(task, description=name)
            rows += sweep(case, name, (None,) if quick else WINDOWS, on_gpu)
            bar.advance(task)
    # A narrow window may end as MAX_ROUNDS: it froze an error that the rows behind it made larger than tol.
    assert all("NONFINITE" not in row["result"] for row in rows)
    if quick:
        return
    config = {"windows": WINDOWS, "tolerances": TOLERANCES, "batch": BATCH}
    write_result("bench_sweep", {"rows": rows}, config=config, seed=seed, command=COMMAND)
    plots.sweep(rows, RESULTS / "bench_sweep.png")
