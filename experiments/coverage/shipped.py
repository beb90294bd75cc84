"""The shipped models: certified samples further off than tol, the bound over the true error, and rounds."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import track

import pcm_jax as pcm
from experiments.common import study
from experiments.common.figures import RESULTS, command_line, record, write_result
from experiments.coverage import plot
from experiments.robots.train import observations
from pcm_jax.files import write_text
from pcm_jax.pretrained import available_adapters, load, load_adapter, load_policy
from pcm_jax.priors import GaussianPrior
from pcm_jax.sampling.network import draw_step_noise
from pcm_jax.solvers import Solver
from pcm_jax.trees import fingerprint

METHODS = {
    "Picard": ("identity", False, False),
    "secant": ("secant", False, False),
    "secant, prior": ("secant", True, False),
    "PCM": ("secant", False, True),
}
"""Slope, whether the prior is the first guess, adapter; one that was trained from the prior starts from it."""
NOISES = {"digits": (256, 256), "pusht": (256, 256), "metaworld": (256, 256), "fashion": (16, 2), "emoji32": (4, 1)}
"""With all rows in the window, and with fewer: what two CPU cores can do; `--noises` for all models."""
LARGER = ("fashion", "emoji32")
"""They have no curves, whose runs go on until nothing changes."""
ENOUGH = 16
"""Noises, from which on a cell's median counts in the summary."""
TINY = 1e-3
"""Errors under this part of tol are left out of bound / error: the fixed point is reached, and round-off remains."""


@dataclasses.dataclass(frozen=True)
class Shipped:
    """models: by name, images and policies. solvers: all by default. noises: of each cell, by default few for larger
    models. batch: sampled at once. data: demonstrations of the policies, whose held-out observations they decide on.
    """  # noqa: D205

    models: tuple[str, ...] = ("digits", "pusht", "metaworld", "fashion", "emoji32")
    solvers: tuple[str, ...] | None = None
    methods: tuple[str, ...] = tuple(METHODS)
    windows: tuple[int | None, ...] = (None, 16)
    tolerances: tuple[float, ...] = (0.1, 0.03, 0.01, 0.003)
    noises: int | None = None
    batch: int = 64
    seed: int = 20_000
    data: Path | None = None
    out: Path = Path("experiments/out/coverage/shipped")


class Subject(NamedTuple):
    """A model with what its samplers take."""

    name: str
    model: Any
    prior: GaussianPrior | None
    shape: tuple[int, ...]
    solvers: dict[str, Solver]
    observations: np.ndarray | None

    def draw(self, solver: Solver, seed: int, size: int) -> dict[str, Any]:
        """Noise, step noise and conditioning; labels run through the classes."""
        noise, steps, seen = jax.random.split(jax.random.key(seed), 3)
        x = jax.random.normal(noise, (size, *self.shape))
        z = draw_step_noise(steps, len(solver), x.shape, x.dtype) if solver.stochastic else None
        if self.observations is not None:
            cond = jnp.asarray(jax.random.choice(seen, self.observations, (size,)))
        else:
            cond = jnp.arange(size) % max(self.model.num_classes, 1)
        return {"noise": x, "step_noise": z, "cond": cond}

    def adapter(self, solver: str) -> Any:
        """The shipped one for this solver; None if there is none."""
        name = study.adapter_name(self.name, solver)
        return load_adapter(name, self.model) if name in available_adapters() else None


def subject(name: str, data: Path | None) -> Subject:
    """By name."""
    if name in ("pusht", "metaworld"):
        policy = load_policy(name)
        seen = observations(policy, name, data, unseen=True)  # type: ignore[arg-type]
        shape = (policy.horizon, policy.action.size)
        return Subject(name, policy, policy.prior, shape, {"DDPM-100": policy.solver}, seen)
    model = load(name)
    options: dict[str, Any] = {"prediction": model.prediction, "clip": model.clip}
    table = {
        "DDIM-50": pcm.solvers.ddim(model.schedule, 50, **options),
        "DDIM-100": pcm.solvers.ddim(model.schedule, 100, **options),
        "DDPM-100": pcm.solvers.ddpm(model.schedule, 100, **options),
        "DPM++-20": pcm.solvers.dpm_solver_pp(model.schedule, 20, **options),
        # On a VP schedule Euler's method in sigma / alpha is DDIM; where others call it Euler its steps are even.
        "Euler-50": pcm.solvers.ddim(model.schedule, 50, spacing="linspace", **options),
        "Heun-20": pcm.solvers.heun(model.schedule, 20, **options),
    }
    return Subject(name, model, model.prior, model.sample_shape, table, None)


def run_shipped(config: Shipped, console: Console, *, progress: bool = True) -> dict[str, Any]:
    """All cells, then the summary, the figure and the plot."""
    config.out.mkdir(parents=True, exist_ok=True)
    cells, curves = [], []
    for name in config.models:
        about = subject(name, config.data)
        names = [each for each in about.solvers if config.solvers is None or each in config.solvers]
        todo = [
            (solver, method, window)
            for solver, method, window in itertools.product(names, config.methods, config.windows)
            if not METHODS[method][2] or about.adapter(solver) is not None
        ]
        for cell in track(todo, name, console=console, disable=not progress):
            cells += _kept(config, about, *cell)
        if name not in LARGER:
            shown = [method for solver, method, window in todo if solver == names[0] and not window]
            curves += [_curve(config, about, names[0], method) for method in shown]
    summary = _summary(cells)
    command = command_line("experiments.coverage shipped", config, always=(), never=("out", "data"))
    plain = dataclasses.replace(config, data=None)
    payload = {"summary": summary, "cells": cells, "curves": curves}
    write_result("coverage_shipped", payload, config=plain, seed=config.seed, command=command)
    record("certificate.shipped_over", summary["over"], command=command)
    for figure, value in _rounds(cells).items():
        record(figure, value, command=command)
    plot.bounds(curves, RESULTS / "coverage_shipped.png")
    console.print(summary)
    return payload


def _options(about: Subject, solver: str, method: str) -> dict[str, Any]:
    slope, guess, tuned = METHODS[method]
    options: dict[str, Any] = {"linearization": study.SLOPES[slope], "prior": about.prior if guess else None}
    if tuned:
        shipped = about.adapter(solver)
        options |= study.tuned(shipped, about.prior, slope)
    return options


def _noises(config: Shipped, name: str, window: int | None) -> int:
    return config.noises or NOISES[name][window is not None]


def at_tolerance(out: pcm.SampleOutput, tol: float) -> pcm.SampleOutput:
    """What a run with return_rounds=True and all rows in its window would have returned for a tolerance above its own.

    Such a run ends when its bound is at most tol, and until then tol is in none of its numbers. A sample that broke in
    the finer run counts as broken. Of stats only the rounds are those of the coarser run.
    """
    assert out.iterates is not None
    bounds, ended = np.asarray(out.stats.bounds), np.asarray(out.stats.rounds)
    # Of a broken sample the loop says that its bound is 0.
    whole = np.asarray(out.result) != pcm.ResultCode.NONFINITE
    hit = (bounds >= 0) & (bounds <= tol) & whole
    converged = hit.any(axis=0)
    rounds = np.where(converged, hit.argmax(axis=0) + 1, ended)
    at = (np.maximum(rounds, 1) - 1, np.arange(len(rounds)))
    result = np.where(converged, pcm.ResultCode.CONVERGED, np.asarray(out.result))
    return dataclasses.replace(
        out,
        sample=jnp.asarray(np.asarray(out.iterates)[at]),
        error_bound=jnp.where(whole, bounds[at], jnp.inf),
        result=jnp.asarray(result),
        stats=dataclasses.replace(out.stats, rounds=jnp.asarray(rounds)),
    )


def _cell(config: Shipped, about: Subject, solver_name: str, method: str, window: int | None) -> list[dict[str, Any]]:
    """One method at every tolerance, on the same noises."""
    solver = about.solvers[solver_name]
    noises = _noises(config, about.name, window)
    options = _options(about, solver_name, method)
    found: dict[float, list[tuple[Any, ...]]] = {tol: [] for tol in config.tolerances}
    for part, at in enumerate(range(0, noises, config.batch)):
        drawn = about.draw(solver, config.seed + part, min(config.batch, noises - at))
        x = drawn.pop("noise")
        exact = pcm.sample_sequential(about.model.model_fn, about.model.params, x, solver, **drawn).sample
        whole = window is None or window >= len(solver)
        # With all rows in the window a run at the smallest tolerance is that of the others too, which end earlier.
        for tol in (min(config.tolerances),) if whole else config.tolerances:
            out = pcm.sample_picard(
                about.model.model_fn, about.model.params, x, solver, return_rounds=whole,
                window=None if whole else window, tol=tol, **drawn, **options,
            )  # fmt: skip
            for reached in config.tolerances if whole else (tol,):
                ended = at_tolerance(out, reached) if whole else out
                off = jnp.sqrt(jnp.mean((ended.sample - exact) ** 2, axis=tuple(range(1, x.ndim))))
                kept = (off, ended.error_bound, ended.converged, ended.stats.rounds)
                found[reached].append(tuple(map(np.asarray, kept)))
    cells = []
    for tol, parts in found.items():
        error, bound, converged, rounds = (np.concatenate(each) for each in zip(*parts, strict=True))
        plain = converged & (error > TINY * tol)
        cells.append(
            {"model": about.name, "solver": solver_name, "method": method, "window": window, "tol": tol}
            | {"noises": noises, "certified": int(converged.sum()), "over": int((converged & (error > tol)).sum())}
            | {"worst_error_over_tol": float((error / tol)[converged].max(initial=0.0))}
            | {"worst_error_over_bound": float((error / np.maximum(bound, 1e-12))[plain].max(initial=0.0))}
            | {"median_bound_over_error": float(np.median((bound / error)[plain])) if plain.any() else None}
            | {"rounds": float(rounds.mean())}
        )
    return cells


def _curve(config: Shipped, about: Subject, solver_name: str, method: str) -> dict[str, Any]:
    """Median bound and true error after every round, in a run that goes on until nothing changes."""
    solver = about.solvers[solver_name]
    drawn = about.draw(solver, config.seed, min(config.batch, _noises(config, about.name, None)))
    x = drawn.pop("noise")
    exact = pcm.sample_sequential(about.model.model_fn, about.model.params, x, solver, **drawn).sample
    out = pcm.sample_picard(
        about.model.model_fn, about.model.params, x, solver, tol=0.0, return_rounds=True,
        max_rounds=min(len(solver), plot.ROUNDS), **drawn, **_options(about, solver_name, method),
    )  # fmt: skip
    assert out.iterates is not None
    error = np.sqrt(np.mean(np.square(np.asarray(out.iterates) - np.asarray(exact)), axis=tuple(range(2, x.ndim + 1))))
    bound = np.where(np.asarray(out.stats.bounds) < 0, 0.0, np.asarray(out.stats.bounds))
    quantiles = {
        key: [_finite(np.quantile(value, q, axis=1, method="nearest")) for q in (0.1, 0.5, 0.9)]
        for key, value in (("error", error), ("bound", bound))
    }
    return {"model": about.name, "solver": solver_name, "method": method} | quantiles


def _finite(values: np.ndarray) -> list[float | None]:
    """inf, no bound, as None."""
    return [value if np.isfinite(value) else None for value in values.tolist()]


def _summary(cells: list[dict[str, Any]]) -> dict[str, Any]:
    certified = sum(cell["certified"] for cell in cells)
    enough = min(ENOUGH, max(cell["noises"] for cell in cells))
    medians = [cell["median_bound_over_error"] for cell in cells if cell["noises"] >= enough]
    cautious = [median for median in medians if median is not None]
    return {
        "certified": certified,
        "samples": sum(cell["noises"] for cell in cells),
        "over": sum(cell["over"] for cell in cells) / max(1, certified),
        "worst_error_over_tol": max(cell["worst_error_over_tol"] for cell in cells),
        "worst_error_over_bound": max(cell["worst_error_over_bound"] for cell in cells),
        "median_bound_over_error": float(np.median(cautious)),
        "largest_median_bound_over_error": max(cautious),
    }


def _rounds(cells: list[dict[str, Any]]) -> dict[str, float]:
    """Mean rounds from the prior at the default tolerance, all rows in the window."""
    found = {}
    for cell in cells:
        if (cell["window"], cell["tol"], cell["method"]) == (None, 0.01, "secant, prior"):
            solver = cell["solver"].lower().replace("-", "").replace("+", "p")
            name = cell["model"] if cell["model"] in ("pusht", "metaworld") else f"{cell['model']}.{solver}"
            found[f"{name}.rounds"] = cell["rounds"]
    return found


def _kept(config: Shipped, about: Subject, solver: str, method: str, window: int | None) -> list[dict[str, Any]]:
    """From the file if it was measured with this configuration before."""
    adapter = about.adapter(solver) if METHODS[method][2] else None
    prior = about.prior if METHODS[method][1] or METHODS[method][2] else None
    key: dict[str, Any] = {
        "model": fingerprint(about.model.params),
        "adapter": None if adapter is None else fingerprint((adapter.lora, adapter.tables)),
        "prior": None if prior is None else fingerprint(prior),
        "noises": _noises(config, about.name, window),
        "tolerances": list(config.tolerances),
        "seed": config.seed,
        # A part of the noises has a seed of its own.
        "batch": min(config.batch, _noises(config, about.name, window)),
        "solver": fingerprint(about.solvers[solver]),
        "observations": None if about.observations is None else fingerprint({"observations": about.observations}),
    }
    path = config.out / f"{about.name}-{solver}-{method}-{window}.json".replace(" ", "").replace(",", "-")
    if path.exists() and (known := json.loads(path.read_text()))["key"] == key:
        return list(known["cells"])
    cells = _cell(config, about, solver, method, window)
    write_text(path, json.dumps({"key": key, "cells": cells}))
    return cells
