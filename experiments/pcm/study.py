"""What PCM gains: error of the sample after every round, and rounds to the certificate, beside Picard's.

Fresh noises for every seed, in batches that a small machine can hold. Each cell (solver, seed, method, window) is kept
in experiments/out as soon as it is measured, so that a study that was stopped goes on where it was.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import pcm_jax as pcm
from experiments.common import plots, study
from experiments.common.figures import RESULTS, command_line, record, write_result
from pcm_jax.files import write_text
from pcm_jax.metrics import rounds_to
from pcm_jax.pretrained import Pretrained, load, load_adapter
from pcm_jax.trees import fingerprint

METHODS = {
    "Picard": ("identity", False),
    "Picard + secant": ("secant", False),
    "secant + prior": ("secant", False),
    "PCM": ("identity", True),
    "PCM + secant": ("secant", True),
}
GUESS = "secant + prior"
"""The one that starts from the prior; PCM does if it was trained from it."""
PREVIEWS = {"PCM, preview": "PCM", "PCM + secant, preview": "PCM + secant"}
"""The same runs, ended early and showing the data prediction of the adapter's rows."""
VISUAL = 0.1
"""Visually exact: RMS error of a tenth of the data's standard deviation."""
FIRST_SEED = 10_000
"""Training draws from small seeds."""


@dataclasses.dataclass(frozen=True)
class Study:
    """Measure a model's shipped adapters.

    noises: fresh ones for each seed. batch: sampled at once. windows: besides the full one, for certified rounds.
    early: rounds of the runs that show previews.
    """

    model: str = "digits"
    solvers: tuple[str, ...] = ("DDIM-50", "DDIM-100")
    noises: int = 256
    seeds: tuple[int, ...] = (0, 1, 2)
    batch: int = 64
    windows: tuple[int, ...] = (8, 16, 32)
    tol: float = 1e-2
    early: int = 6
    out: Path = Path("experiments/out/pcm_study")


def run_study(config: Study, console: Console) -> dict[str, Any]:
    """All cells, then the tables, the plot and the headline numbers."""
    console.width = max(console.width, 130)
    model = load(config.model)
    cells: list[tuple[str, int, str, int | None]] = [
        (solver, seed, method, None)
        for solver in config.solvers
        for seed in config.seeds
        for method in (*METHODS, *PREVIEWS)
    ]
    cells += [
        (solver, config.seeds[0], method, window)
        for solver in config.solvers
        for method in ("Picard + secant", "PCM + secant")
        for window in config.windows
    ]
    found: list[dict[str, Any]] = []
    bar = Progress(
        TextColumn("{task.description:44}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    with bar:
        task = bar.add_task("", total=len(cells))
        for solver, seed, method, window in cells:
            bar.update(task, description=f"{solver}, seed {seed}, {method}, window {window or 'full'}")
            found.append(_cell(config, model, solver, seed, method, window))
            bar.advance(task)
    summary = {solver: _summary(model, found, solver) for solver in config.solvers}
    command = command_line("experiments.pcm study", config, always=("model",))
    payload = {"cells": found, "summary": summary}
    write_result(f"pcm_study_{config.model}", payload, config=config, seed=config.seeds[0], command=command)
    for solver, numbers in summary.items():
        key = f"{config.model}.{solver.lower().replace('-', '')}"
        for name, value in numbers["figures"].items():
            record(f"{key}.{name}", value, command=command)
    curves = [
        {"solver": solver, "method": method, "error": numbers["error"][method]}
        for solver, numbers in summary.items()
        for method in numbers["error"]
    ]
    plots.errors(curves, RESULTS / f"pcm_study_{config.model}.png", exact=VISUAL * model.data_std)
    _show(summary, console)
    return payload


def _cell(
    config: Study, model: Pretrained, solver_name: str, seed: int, method: str, window: int | None
) -> dict[str, Any]:
    """One method on one seed's noises; from the file if it has been measured with this configuration before."""
    adapter = load_adapter(study.adapter_name(config.model, solver_name), model)
    solver = study.solvers(model)[solver_name]
    slope, tuned = METHODS[PREVIEWS.get(method, method)]
    about: dict[str, Any] = {
        "solver": solver_name,
        "seed": seed,
        "method": method,
        "window": window,
        "noises": config.noises,
        "tol": config.tol,
        "visual": VISUAL * model.data_std,
        "base": fingerprint(model.params),
        "adapter": fingerprint((adapter.lora, adapter.tables)) if tuned else None,
    }
    if method in PREVIEWS:
        about |= {"preview": list(adapter.previews[slope]), "early": config.early}
    path = config.out / f"{config.model}-{solver_name}-{seed}-{method}-{window}.json".replace(" ", "").replace("+", "p")
    if path.exists():
        known: dict[str, Any] = json.loads(path.read_text())
        if {name: known.get(name) for name in about} == about:
            return known
    options: dict[str, Any] = {"tol": config.tol, "linearization": study.SLOPES[slope], "window": window}
    if method == GUESS:
        options["prior"] = model.prior
    if tuned:
        options |= study.tuned(adapter, model.prior, slope)
    if method in PREVIEWS:
        options |= {"preview": adapter.previews[slope], "max_rounds": config.early}
    squares, rounds, results, evaluations, worst = [], [], set(), 0, 0.0
    for index, size in enumerate(_parts(config.noises, config.batch)):
        case = study.problem(model, solver, batch=size, seed=FIRST_SEED + 1000 * seed + index)
        exact = np.asarray(case.sequential().sample)
        out = case.picard(return_rounds=window is None, **options)
        if out.iterates is not None:
            squares.append(
                np.mean((np.asarray(out.iterates, np.float64) - exact) ** 2, axis=tuple(range(2, 1 + exact.ndim)))
            )
        rounds += np.asarray(out.stats.rounds).tolist()
        results |= {pcm.ResultCode(int(code)).name for code in np.asarray(out.result)}
        evaluations += int(out.stats.evaluations.sum())
        worst = max(worst, float(np.max(np.abs(np.asarray(out.sample) - exact))))
    length = max(rounds)
    each = np.sqrt(np.concatenate(squares, 1))[:length] if squares else None
    cell = about | {
        "error": None if each is None else np.sqrt(np.mean(each**2, axis=1)).tolist(),
        "visual_mean": None if each is None else _visual(each, VISUAL * model.data_std),
        "rounds_mean": float(np.mean(rounds)),
        "rounds_max": length,
        "evaluations": evaluations,
        "result": " + ".join(sorted(results)),
        "max_difference": worst,
    }
    write_text(path, json.dumps(cell))
    return cell


def _visual(error: np.ndarray, threshold: float) -> float:
    """Rounds to the threshold, mean over samples: error `[rounds, samples]` of runs that end on the exact sample."""
    reached = [rounds_to(curve, threshold) for curve in error.T.tolist()]
    return float(np.mean([len(error) if rounds is None else rounds for rounds in reached]))


def _parts(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]


def _summary(model: Pretrained, cells: Sequence[dict[str, Any]], solver: str) -> dict[str, Any]:
    """Means over seeds, and the headline ratios."""
    mine = [cell for cell in cells if cell["solver"] == solver]
    methods = (*METHODS, *PREVIEWS)
    whole = {method: [c for c in mine if c["method"] == method and c["window"] is None] for method in methods}
    error = {method: _mean_curve([cell["error"] for cell in group]) for method, group in whole.items()}
    rounds = {method: float(np.mean([cell["rounds_mean"] for cell in whole[method]])) for method in METHODS}
    visual = {method: float(np.mean([cell["visual_mean"] for cell in group])) for method, group in whole.items()}
    all_at_once = {method: rounds_to(curve, VISUAL * model.data_std) for method, curve in error.items()}
    certified = {"full": rounds["PCM + secant"] / rounds["Picard + secant"]}
    for window in sorted({cell["window"] for cell in mine if cell["window"]}):
        pair = {cell["method"]: cell["rounds_mean"] for cell in mine if cell["window"] == window}
        certified[str(window)] = pair["PCM + secant"] / pair["Picard + secant"]

    def ratio(tuned: str, base: str, after: int) -> float:
        return error[tuned][after - 1] / error[base][after - 1]

    steps = len(study.solvers(model)[solver])
    figures = {
        "error_ratio_round2": ratio("PCM, preview", "Picard", 2),
        "error_ratio_round4": ratio("PCM, preview", "Picard", 4),
        "error_ratio_secant_round2": ratio("PCM + secant, preview", "Picard + secant", 2),
        "error_ratio_secant_round4": ratio("PCM + secant, preview", "Picard + secant", 4),
        "error_ratio_last_state_round2": ratio("PCM", "Picard", 2),
        "error_ratio_last_state_round4": ratio("PCM", "Picard", 4),
        "error_ratio_secant_last_state_round2": ratio("PCM + secant", "Picard + secant", 2),
        "error_ratio_secant_last_state_round4": ratio("PCM + secant", "Picard + secant", 4),
        "visual_rounds_ratio": visual["PCM + secant, preview"] / visual["Picard"],
        "visual_rounds_ratio_secant": visual["PCM + secant, preview"] / visual["Picard + secant"],
        "visual_rounds_ratio_last_state": visual["PCM + secant"] / visual["Picard"],
        "visual_rounds_over_sequential": visual["PCM + secant, preview"] / steps,
        "certified_rounds_ratio": certified["full"],
        "certified_rounds_ratio_worst": max(certified.values()),
    }
    return {
        "error": error,
        "rounds": rounds,
        "visual": visual,
        "visual_of_the_mean_error": all_at_once,
        "certified": certified,
        "figures": figures,
    }


def _mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """Root mean square over seeds; a run that ended earlier stays where it was."""
    length = max(map(len, curves))
    whole = np.array([list(curve) + [curve[-1]] * (length - len(curve)) for curve in curves])
    return [float(value) for value in np.sqrt(np.mean(whole**2, axis=0))]


def _show(summary: dict[str, Any], console: Console) -> None:
    for solver, numbers in summary.items():
        table = Table(title=f"{solver}: RMS error after each round")
        for title in ("method", *map(str, range(1, 9)), "visually exact", "certified"):
            table.add_column(title, justify="left" if title == "method" else "right")
        for method, curve in numbers["error"].items():
            errors = [f"{value:.4f}" for value in curve[:8]] + [""] * (8 - len(curve[:8]))
            certified = f"{numbers['rounds'][method]:.2f}" if method in METHODS else ""
            table.add_row(method, *errors, f"{numbers['visual'][method]:.2f}", certified)
        console.print(table)
        console.print(numbers["figures"])
