"""The same images from ten rounds that took fifty steps, with the error printed beside them.

    make demo            # or: python -m experiments.demo --help

Samples with the shipped digits model sequentially, with Picard, with Picard + secant and, for the samplers that an
adapter is shipped for, with PCM + secant; then with every switch. Writes experiments/results/demo.json and the pictures
demo_samples.png, demo_rounds.png (the images after 1, 2, 3, 4 rounds), demo_convergence.png and demo_switches.png. On 2
CPU cores it takes about one and a half minutes, and parallel rounds do not pay in seconds there; a GPU is another
matter (make demo PYTHON=python3 VENV=).
"""

from __future__ import annotations

import time
from typing import Any

import jax
import tyro
from rich.console import Console
from rich.table import Table

from experiments import STARTED, plots
from experiments.demo_runs import EXACT, Config, run
from experiments.figures import RESULTS, record, write_result

COMMAND = "make demo"


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
    for index, row in enumerate(rows):
        table.add_row(
            row["solver"],
            row["method"],
            str(row["rounds"]),
            f"{row['evaluations']:,}",
            f"{row['speedup']:.1f}x",
            f"{row['seconds']:.2f}",
            f"{row['max_difference']:.1e}" if row["max_difference"] else "0",
            row["result"],
            end_section=index + 1 < len(rows) and rows[index + 1]["method"] == "sequential",
        )
    console.print(table)


def write(config: Config, outcome: dict[str, Any], seconds: float) -> None:
    """JSON and headline figures."""
    rows, curves = outcome["rows"], outcome["curves"]
    payload = {"rows": rows, "curves": curves, "switches": outcome["switches"], "seconds": seconds}
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
    plots.rounds_grid(outcome["early"], outcome["reference"], RESULTS / "demo_rounds.png")
    plots.convergence(outcome["curves"], RESULTS / "demo_convergence.png", tol=config.tol)
    if outcome["switches"]:
        plots.errors(outcome["switches"], RESULTS / "demo_switches.png", exact=EXACT, bottom=EXACT / 10)
    seconds = time.perf_counter() - STARTED
    write(config, outcome, seconds)
    console.print(
        f"Pictures and numbers: {RESULTS.name}/demo*.png, demo.json ({seconds:.0f} s)\n"
        f"Device: {jax.devices()[0].device_kind}. A round is one batched call on all rows of the window. Its seconds\n"
        "pay on accelerators and on many devices, where a batch costs about as much as one row; on a few CPU cores\n"
        "every row costs its own time, and the rounds show what a larger machine would gain."
    )


if __name__ == "__main__":
    main(tyro.cli(Config))
