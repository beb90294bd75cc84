"""The same images from ten rounds that took fifty steps, with the error printed beside them.

    make demo            # or: python -m experiments.demo --help

Samples with the shipped digits model sequentially, with Picard, with Picard + secant, from the model's Gaussian prior
and, for the samplers that an adapter is shipped for, with PCM + secant; then one image alone, and every switch. Writes
experiments/results/demo.json and the pictures demo_samples.png, demo_rounds.png (the images after 1, 2, 3, 4 rounds),
demo_convergence.png and demo_switches.png. On 2 CPU cores it takes about two minutes, and parallel rounds do not pay
in seconds there; a GPU is another matter (make demo PYTHON=python3 VENV=).
"""

from __future__ import annotations

import time
from typing import Any

import jax
import tyro
from rich.console import Console
from rich.table import Table

from experiments import STARTED
from experiments.common import plots
from experiments.common.figures import RESULTS, record, write_result
from experiments.demo.runs import BEST, EXACT, Config, run

COMMAND = "make demo"


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """The table."""
    table = Table(title="The same noise for every method")
    for title in (
        "solver",
        "method",
        "rounds (mean)",
        "evaluations",
        "fewer calls in a row",
        "seconds here",
        "RMS error (worst)",
        "bound",
        "result",
    ):
        table.add_column(
            title,
            no_wrap=title in ("solver", "method"),
            justify="left" if title in ("solver", "method", "result") else "right",
        )
    for index, row in enumerate(rows):
        table.add_row(
            row["solver"],
            row["method"],
            f"{row['rounds']} ({row['rounds_mean']:.1f})",
            f"{row['evaluations']:,}",
            f"{row['speedup']:.1f}x",
            f"{row['seconds']:.2f}",
            f"{row['worst_error']:.1e}" if row["worst_error"] else "0",
            f"{row['error_bound']:.1e}" if row["error_bound"] else "0",
            row["result"],
            end_section=index + 1 < len(rows) and rows[index + 1]["method"] == "sequential",
        )
    console.print(table)


def write(config: Config, outcome: dict[str, Any], seconds: float) -> None:
    """JSON and headline figures."""
    rows, curves = outcome["rows"], outcome["curves"]
    payload = {"rows": rows, "curves": curves, "switches": outcome["switches"], "single": outcome["single"]}
    payload["few"] = outcome["few"]
    payload["seconds"] = seconds
    write_result("demo", payload, config=config, seed=config.seed, command=COMMAND)
    best = {row["solver"]: row["rounds"] for row in rows if row["method"] == BEST}
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
    console.width = max(console.width, 132)  # the table is one line a row in files and narrow windows too
    outcome = run(config, console)
    show(outcome["rows"], console)
    plots.image_grids(outcome["panels"], RESULTS / "demo_samples.png")
    plots.rounds_grid(outcome["early"], outcome["reference"], RESULTS / "demo_rounds.png")
    plots.convergence(outcome["curves"], RESULTS / "demo_convergence.png", tol=config.tol)
    if outcome["switches"]:
        plots.errors(outcome["switches"], RESULTS / "demo_switches.png", exact=EXACT, bottom=EXACT / 10)
    seconds = time.perf_counter() - STARTED
    write(config, outcome, seconds)
    shorter = ", ".join(f"{row['solver']} {row['worst_error']:.2f}" for row in outcome["few"])
    console.print(f"Another sample of fewer steps instead of {config.solvers[0]}, RMS error (worst): {shorter}.")
    alone = outcome["single"]
    console.print(
        f"Pictures and numbers: {RESULTS.name}/demo*.png, demo.json ({seconds:.0f} s)\n"
        f"Device: {jax.devices()[0].device_kind}. Rounds are network calls in a row, which decide the seconds where a\n"
        "batch costs about as much as one row: on accelerators and on many devices. The seconds here are this\n"
        "machine's: on a few CPU cores every row of a batch costs its own time.\n"
        f"One image alone, {alone[0]['solver']}: {alone[0]['rounds']} steps in {1e3 * alone[0]['seconds']:.1f} ms, "
        f"{alone[1]['rounds']} rounds in {1e3 * alone[1]['seconds']:.1f} ms."
    )


if __name__ == "__main__":
    main(tyro.cli(Config))
