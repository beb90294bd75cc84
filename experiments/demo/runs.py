"""The demo's samples: every solver with every method, then one solver with every switch."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import pcm_jax as pcm
from experiments.common import study
from pcm_jax.metrics import rounds_to
from pcm_jax.pretrained import Pretrained, PretrainedAdapter

METHODS = {
    "Picard": ("identity", False),
    "Picard + secant": ("secant", False),
    "secant + prior": ("secant", True),
    "PCM + secant": ("secant", False),
}
"""Slope, and whether the model's Gaussian prior is the first guess; an adapter knows whether it was trained from it."""
BEST = "secant + prior"
SWITCHES = {
    "always": pcm.switching.always(),
    "after(2)": pcm.switching.after(2),
    "linear(1.0, 6)": pcm.switching.linear(1.0, 6),
    "frontier(12)": pcm.switching.frontier(12),
    "adaptive(0.05)": pcm.switching.adaptive(0.05),
}
"""Beside never, which is Picard + secant, and the calibrated one, which is PCM + secant."""
PREVIEW = "calibrated, preview"
"""The calibrated switch again, showing the nearest data prediction after each round instead of the last state."""
REPEATS = 20
"""Of the runs of one image, which take milliseconds."""
FIRST_ROUNDS = 4
"""Of which the images are shown."""
FEW = (10, 20)
"""Steps of the shorter samplers that are taken instead: as many calls, and another sample."""
EXACT = 0.01
"""RMS error, in units of the data, that counts as the same image (8-bit grey levels are 0.008 apart)."""


@dataclasses.dataclass(frozen=True)
class Config:
    """images: how many samples. tol: of the certificate. seed: of all noise. solvers: which to run.

    switch_images, switch_rounds: of the comparison of switches, on the first solver.
    """

    images: int = 64
    solvers: tuple[str, ...] = ("DDIM-50", "DDIM-100", "DDPM-100", "DPM-Solver++-20")
    tol: float = 1e-2
    seed: int = 0
    switch_images: int = 16
    switch_rounds: int = 8


def run(config: Config, console: Console) -> dict[str, Any]:
    """Rows of the table, curves, and the images of the first solver, beside which shorter samplers stand."""
    model = pcm.pretrained.load("digits")
    solvers = {name: study.solvers(model)[name] for name in config.solvers}
    adapters = {name: study.adapter_for(model, name) for name in solvers}
    first = config.solvers[0]
    found: dict[str, Any] = {"rows": [], "curves": [], "panels": {}, "early": {}, "switches": [], "few": []}
    bar = Progress(
        TextColumn("{task.description:34}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    with bar:
        methods = {name: [m for m in METHODS if adapters[name] or not m.startswith("PCM")] for name in solvers}
        switches = (*SWITCHES, PREVIEW) if adapters[first] else ()
        task = bar.add_task("", total=sum(1 + len(group) for group in methods.values()) + len(switches))
        for name, solver in solvers.items():
            case = study.problem(model, solver, batch=config.images, seed=config.seed)
            bar.update(task, description=f"{name}, sequential")
            out, seconds = study.timed(study.Problem.sequential, case)
            reference = np.asarray(out.sample)
            found["rows"].append(
                {"solver": name, "method": "sequential", "speedup": 1.0} | study.row(out, reference, seconds)
            )
            if name == first:
                found["reference"] = reference
                found["panels"][f"{name}, sequential\n{len(solver)} steps"] = reference
                found["few"] = [_few(case, name, steps) for steps in FEW]
            bar.advance(task)
            for method in methods[name]:
                bar.update(task, description=f"{name}, {method}")
                adapter = adapters[name] if method.startswith("PCM") else None
                out = _method(config, case, name, method, adapter, reference, found)
                if name == first:
                    found["panels"][f"{name}, {method}\n{found['rows'][-1]['rounds']} rounds"] = np.asarray(out.sample)
                    found["early"][f"{name}, {method}"] = list(np.asarray(out.iterates)[:FIRST_ROUNDS])
                bar.advance(task)
        bar.update(task, description=f"{first}, one image")
        found["single"] = _single(config, model, first)
        for switch in switches:
            bar.update(task, description=f"{first}, switch {switch}")
            found["switches"].append(_switch(config, model, first, adapters[first], switch))
            bar.advance(task)
    if switches:
        mine = {curve["method"]: curve["error"][: config.switch_rounds] for curve in found["curves"][: len(METHODS)]}
        names = {"Picard + secant": "never (Picard + secant)", "PCM + secant": "calibrated (PCM + secant)"}
        found["switches"] += [{"solver": first, "method": names[m], "error": mine[m]} for m in names]
    return found


def _method(
    config: Config,
    case: study.Problem,
    name: str,
    method: str,
    adapter: PretrainedAdapter | None,
    reference: np.ndarray,
    found: dict[str, Any],
) -> pcm.SampleOutput:
    """One row and one curve."""
    slope, guess = METHODS[method]
    options: dict[str, Any] = {"tol": config.tol, "linearization": study.SLOPES[slope], "return_rounds": True}
    options["prior"] = case.model.prior if guess else None
    if adapter is not None:
        options |= study.tuned(adapter, case.model.prior)
    out, seconds = study.timed(study.Problem.picard, case, **options)
    line = study.row(out, reference, seconds)
    rounds = line["rounds"]
    errors = study.error_curve(out, reference, rounds)
    assert out.stats.bounds is not None
    bounds = [bound if np.isfinite(bound) else None for bound in np.max(out.stats.bounds[:rounds], axis=1).tolist()]
    found["rows"].append({"solver": name, "method": method, "speedup": len(case.solver) / rounds} | line)
    found["curves"].append(
        {"solver": name, "method": method, "error": errors, "bound": bounds}
        | {"rounds_to_exact": rounds_to(errors, EXACT)}
    )
    return out


def _few(case: study.Problem, name: str, steps: int) -> dict[str, Any]:
    """How far the sample of a shorter DDIM is from the first solver's, which it replaces."""
    model = case.model
    solver = pcm.solvers.ddim(model.schedule, steps, prediction=model.prediction, clip=model.clip)
    exact = np.asarray(case.sequential().sample)
    row = study.row(dataclasses.replace(case, solver=solver).sequential(), exact)
    kept = ("rounds_mean", "evaluations", "rms_error", "worst_error")
    return {"solver": f"DDIM-{steps}", "instead_of": name} | {key: row[key] for key in kept}


def _single(config: Config, model: Pretrained, name: str) -> list[dict[str, Any]]:
    """Seconds of one image alone, sequential and in rounds: a batch of rows is what a small machine pays for."""
    case = study.problem(model, study.solvers(model)[name], batch=1, seed=config.seed)
    runs = {"sequential": study.timed(study.Problem.sequential, case, repeats=REPEATS)}
    runs[BEST] = study.timed(study.Problem.picard, case, tol=config.tol, prior=model.prior, repeats=REPEATS)
    return [
        {"solver": name, "method": method, "rounds": int(out.stats.rounds.max()), "seconds": seconds}
        for method, (out, seconds) in runs.items()
    ]


def _switch(
    config: Config, model: Pretrained, name: str, adapter: PretrainedAdapter | None, switch: str
) -> dict[str, Any]:
    """Error after each of the first rounds, with another switch than the calibrated one."""
    assert adapter is not None
    case = study.problem(model, study.solvers(model)[name], batch=config.switch_images, seed=config.seed)
    out = case.picard(
        tol=config.tol,
        **study.tuned(adapter, model.prior) | ({"switch": SWITCHES[switch]} if switch in SWITCHES else {}),
        preview=adapter.preview if switch == PREVIEW else None,
        max_rounds=config.switch_rounds,
        return_rounds=True,
    )
    error = study.error_curve(out, np.asarray(case.sequential().sample), config.switch_rounds)
    return {"solver": name, "method": switch, "error": error}
