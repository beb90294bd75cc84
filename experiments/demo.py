"""The same images from ten rounds that took fifty steps, with the error printed beside them.

    make demo            # or: python -m experiments.demo --help

Samples with the shipped digits model sequentially, with Picard and with Picard + secant, for four samplers, and writes
experiments/results/demo.json, demo_samples.png and demo_convergence.png. On 2 CPU cores it takes one to one and a half
minutes, and parallel rounds do not pay in seconds there; a GPU is another matter (make demo PYTHON=python3 VENV=).
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import pcm_jax as pcm
from experiments import STARTED, plots, study
from experiments.figures import RESULTS, record, write_result
from pcm_jax.metrics import rounds_to

COMMAND = "make demo"
METHODS = {"Picard": "identity", "Picard + secant": "secant"}
EXACT = 0.01
"""RMS error, in units of the data, that counts as the same image (8-bit grey levels are 0.008 apart)."""


@dataclasses.dataclass(frozen=True)
class Config:
    """images: how many samples. tol: of the certificate. seed: of all noise. solvers: which to run."""

    images: int = 64
    solvers: tuple[str, ...] = ("DDIM-50", "DDIM-100", "DDPM-100", "DPM-Solver++-20")
    tol: float = 1e-2
    seed: int = 0


def run(config: Config, console: Console) -> dict[str, Any]:
    """All solvers with all methods: rows of the table, curves, and the images of the first solver."""
    model = pcm.pretrained.load("digits")
    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    panels: dict[str, np.ndarray] = {}
    solvers = {name: study.solvers(model)[name] for name in config.solvers}
    bar = Progress(
        TextColumn("{task.description:34}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    with bar:
        task = bar.add_task("", total=len(solvers) * (1 + len(METHODS)))
        for name, solver in solvers.items():
            case = study.problem(model, solver, batch=config.images, seed=config.seed)
            bar.update(task, description=f"{name}, sequential")
            out, seconds = study.timed(study.Problem.sequential, case)
            reference = np.asarray(out.sample)
            if not panels:
                panels[f"{name}, sequential\n{len(solver)} steps"] = reference
            rows.append({"solver": name, "method": "sequential", "speedup": 1.0} | study.row(out, reference, seconds))
            bar.advance(task)
            for method, slope in METHODS.items():
                bar.update(task, description=f"{name}, {method}")
                options = {"tol": config.tol, "linearization": study.SLOPES[slope], "return_rounds": True}
                out, seconds = study.timed(study.Problem.picard, case, **options)
                line = study.row(out, reference, seconds)
                rounds = line["rounds"]
                if len(panels) <= len(METHODS):
                    panels[f"{name}, {method}\n{rounds} rounds"] = np.asarray(out.sample)
                errors = study.error_curve(out, reference, rounds)
                residuals = np.max(np.asarray(out.stats.residuals)[:rounds], axis=1).tolist()
                rows.append({"solver": name, "method": method, "speedup": len(solver) / rounds} | line)
                curves.append(
                    {"solver": name, "method": method, "error": errors, "residual": residuals}
                    | {"rounds_to_exact": rounds_to(errors, EXACT)}
                )
                bar.advance(task)
    return {"rows": rows, "curves": curves, "panels": panels}


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """The table."""
    table = Table(title="The same noise for every method")
    for title in (
        "solver",
        "method",
        "rounds",
        "evaluations",
        "speed-up in rounds",
        "seconds",
        "max difference",
        "result",
    ):
        table.add_column(title, justify="left" if title in ("solver", "method", "result") else "right")
    for row in rows:
        table.add_row(
            row["solver"],
            row["method"],
            str(row["rounds"]),
            f"{row['evaluations']:,}",
            f"{row['speedup']:.1f}x",
            f"{row['seconds']:.2f}",
            f"{row['max_difference']:.1e}" if row["max_difference"] else "0",
            row["result"],
            end_section=row["method"] == list(METHODS)[-1],
        )
    console.print(table)


def write(config: Config, outcome: dict[str, Any], seconds: float) -> None:
    """JSON and headline figures."""
    rows, curves = outcome["rows"], outcome["curves"]
    payload = {"rows": rows, "curves": curves, "seconds": seconds}
    write_result("demo", payload, config=config, seed=config.seed, command=COMMAND)
    best = {row["solver"]: row["rounds"] for row in rows if row["method"] == "Picard + secant"}
    exact = {(curve["solver"], curve["method"]): curve["rounds_to_exact"] for curve in curves}
    for name in [name for name in ("DDIM-50", "DDIM-100", "DDPM-100") if name in best]:
        key = name.lower().replace("-", "")
        record(f"demo.{key}.rounds", best[name], command=COMMAND)
        fast, plain = exact[name, "Picard + secant"], exact[name, "Picard"]
        if name != "DDIM-50" and fast and plain:
            record(f"demo.{key}.secant_over_picard", fast / plain, command=COMMAND)
    record("demo.seconds", seconds, command=COMMAND)


def main(config: Config) -> None:
    """Run, show, write."""
    console = Console()
    console.width = max(console.width, 112)  # the table is one line a row in files and narrow windows too
    outcome = run(config, console)
    show(outcome["rows"], console)
    plots.image_grids(outcome["panels"], RESULTS / "demo_samples.png")
    plots.convergence(outcome["curves"], RESULTS / "demo_convergence.png", tol=config.tol)
    seconds = time.perf_counter() - STARTED
    write(config, outcome, seconds)
    console.print(
        f"Pictures and numbers: {RESULTS.name}/demo_samples.png, demo_convergence.png, demo.json ({seconds:.0f} s)\n"
        f"Device: {jax.devices()[0].device_kind}. A round is one batched call on all rows of the window. Its seconds\n"
        "pay on accelerators and on many devices, where a batch costs about as much as one row; on a few CPU cores\n"
        "every row costs its own time, and the rounds show what a larger machine would gain."
    )


if __name__ == "__main__":
    main(tyro.cli(Config))
