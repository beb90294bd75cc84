"""Is a tuned plan ever slower than the full window or the sequential sampler? The shipped models, four batch sizes.

    python -m experiments.tune.study

Each cell is tuned as a user would, and then timed anew: the plan's choice, the full window and the sequential sampler,
in turn. Its loss is (seconds of the choice) / (the less of the other two). Writes experiments/results/tune_study.json
and the figure `tune.worst_loss`. Ten to fifteen minutes on 2 CPU cores; cells are kept in experiments/out, and a study
that was stopped goes on.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console

import pcm_jax as pcm
from experiments.common.figures import RESULTS, command_line, record, write_result
from experiments.models.cases import MODELS, Case, case
from pcm_jax.files import write_text

SOLVERS = {"digits": "DDIM-50", "fashion": "DPM-Solver++-20", "emoji32": "DPM-Solver++-20"}
LATENT_STEPS = 20
PATIENCE = 8.0
"""Seconds of a cell's comparison after which no repeat is begun."""


@dataclasses.dataclass(frozen=True)
class Config:
    """models, batches: the cells. seconds: of tuning one. out: of finished cells. results: where to write."""

    models: tuple[str, ...] = MODELS
    batches: tuple[int, ...] = (1, 4, 16, 64)
    tol: float = 1e-2
    seconds: float = 30.0
    repeats: int = 9
    seed: int = 0
    resume: bool = True
    out: Path = Path("experiments/out/tune_study")
    results: Path = RESULTS


def main(config: Config) -> dict[str, Any]:
    """All cells, one after the other."""
    console = Console()
    cells = []
    for model in config.models:
        for batch in config.batches:
            path = config.out / f"{model}_{batch}.json"
            if config.resume and path.is_file():
                cells.append(json.loads(path.read_text()))
                continue
            started = time.perf_counter()
            cell = measure(config, model, batch)
            cell["took"] = time.perf_counter() - started
            write_text(path, json.dumps(cell, indent=2) + "\n")
            cells.append(cell)
            console.print(f"{model}, batch {batch}: loss {cell['loss']:.3f} ({cell['took']:.0f} s). {cell['advice']}")
    worst = max(cells, key=lambda cell: cell["loss"])
    command = command_line("experiments.tune.study", config, never=("out", "results", "resume"))
    about = dataclasses.asdict(dataclasses.replace(config, out=Path(), results=Path()))
    about = {name: value for name, value in about.items() if name not in ("out", "results", "resume")}
    write_result(
        "tune_study", {"cells": cells}, config=about, seed=config.seed, command=command, results=config.results
    )
    record("tune.worst_loss", worst["loss"], command=command, results=config.results)
    console.print(f"worst: {worst['model']}, batch {worst['batch']}, {worst['loss']:.3f}")
    return worst


def measure(config: Config, model: str, batch: int) -> dict[str, Any]:
    """Tune, and time the choice beside the full window and the sequential sampler."""
    steps = LATENT_STEPS if model == "latent" else None
    subject = case(model, batch=batch, seed=config.seed, solver=SOLVERS.get(model, ""), steps=steps)
    options: dict[str, Any] = {"prior": subject.prior, "tol": config.tol}
    started = time.perf_counter()
    plan = subject.tune(**options, seconds=config.seconds, progress=False)
    tuning = time.perf_counter() - started
    # Other noise than the plan was made with.
    fresh = case(model, batch=batch, seed=config.seed + 100, solver=SOLVERS.get(model, ""), steps=steps)
    taken, ended = compare(fresh, plan, options, config.repeats)
    other = min(taken["sequential"], taken["full window"]) if ended else taken["sequential"]
    chosen = taken["sequential"] if plan.sequential else taken["plan"]
    return {
        "model": model,
        "solver": subject.solver.name,
        "batch": batch,
        "sequential": plan.sequential,
        "window": plan.window,
        "microbatch": plan.microbatch,
        "steps": plan.steps,
        "expected": plan.expected,
        "speedup": taken["sequential"] / chosen,
        "seconds": taken,
        "full_window_ended": ended,
        "loss": chosen / other,
        "tuning_seconds": tuning,
        "advice": plan.advice,
        "rows": plan.rows,
    }


def compare(subject: Case, plan: pcm.Plan, options: dict[str, Any], repeats: int) -> tuple[dict[str, float], bool]:
    """Median seconds of each, in turn, and whether the full window came to an end before it had lost."""
    steps = len(subject.solver)
    cap = min(steps, max(1, math.ceil(plan.sequential_seconds / plan.cost.call(steps))))
    while True:
        seconds, ended = _compare(subject, plan, options, repeats, cap)
        if ended or cap == steps or seconds["full window"] > seconds["sequential"]:
            return seconds, ended
        cap = min(steps, 2 * cap)  # stopped before it had lost


def _compare(
    subject: Case, plan: pcm.Plan, options: dict[str, Any], repeats: int, cap: int
) -> tuple[dict[str, float], bool]:
    """The same, with at most `cap` rounds of the full window."""
    programs = {
        "sequential": subject.compiled(lambda case: case.sequential()),
        "full window": subject.compiled(lambda case: case.picard(max_rounds=cap, **options)),
    }
    if not plan.sequential:
        how = {"window": plan.window, "microbatch": plan.microbatch}
        programs["plan"] = subject.compiled(lambda case: case.picard(**how, **options))
    taken: dict[str, list[float]] = {name: [] for name in programs}
    started, ended = time.perf_counter(), True
    for _ in range(repeats):
        for name, program in programs.items():
            start = time.perf_counter()
            out = jax.block_until_ready(program(subject.params, subject.noise, subject.step_noise))
            taken[name].append(time.perf_counter() - start)
            if name == "full window":
                ended = bool(np.all(out.converged))
        if time.perf_counter() - started > PATIENCE:
            break
    return {name: float(np.median(each)) for name, each in taken.items()}, ended


if __name__ == "__main__":
    main(tyro.cli(Config))
