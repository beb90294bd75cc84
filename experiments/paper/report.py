"""The published rows beside the measured ones: on the console, as JSON, Markdown and pictures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.common import plots
from experiments.common.figures import RESULTS, command_line, record, write_result
from experiments.paper.config import Images
from experiments.paper.published import ROWS, Row

SHIPPED = "emoji32-latent"
"""The model that the headline figures are of."""


def show(name: str, config: Images, outcome: dict[str, Any], console: Console) -> Path:
    """Print both tables and write everything; returns the path of the JSON."""
    console.width = max(console.width, 120)
    console.print(published(name))
    console.print(summary(config, outcome))
    console.print(curves(outcome))
    results = config.results or config.out / config.model.name
    study = f"paper_{name.replace('-', '_')}"
    grid = outcome.pop("grid")
    exact = grid.pop("sequential")[-1]
    shown = min(len(exact), 8)
    results.mkdir(parents=True, exist_ok=True)
    plots.rounds_grid(grid, exact, results / f"{study}.png", images=shown, across=4)
    plots.paper(outcome, results / f"{study}_fd.png")
    command = command_line(f"experiments.paper {name}", config, never=("out", "results", "model", "distributed"))
    plain = dataclasses.replace(config, out=Path("."), results=None, model=Path(config.model.name))
    path = write_result(study, outcome, config=_names(plain), seed=config.seed, command=command, results=results)
    if results == RESULTS and config.model.name == SHIPPED and config.rounds > 1:
        _figures(outcome["fd"], outcome["sequential"], command)
    best = outcome["latency"].get("PCM-LoRA + secant", {})
    if results == RESULTS and "seconds" in best and outcome["parity"]["PCM-LoRA + secant"]:
        record("images.gpu.latency_over_sequential", best["over_sequential"], command=command)
    console.print(f"wrote {path}, {study}.png and {study}_fd.png beside it")
    return path


def _figures(fd: dict[str, list[float]], sequential: float, command: str) -> None:
    """After two rounds, over plain Picard's: PCM, its previews if there are any, and the sequential sample itself.

    excess: the same of what is above the sequential sampler's FD, which the number of samples biases less.
    """
    plain, tuned = fd["Picard"][1], fd.get("PCM-LoRA + secant, preview", fd["PCM-LoRA"])[1]
    values = {
        "ratio": tuned / plain,
        "floor": sequential / plain,
        "excess": (tuned - sequential) / (plain - sequential),
    }
    for name, value in values.items():
        record(f"ldm.fd_{name}_round2", value, command=command)


def _names(config: Images) -> dict[str, Any]:
    """Files by their names: whose machine they were on is nobody's business."""
    fields = dataclasses.asdict(config)
    return {key: value.name if isinstance(value, Path) else value for key, value in fields.items()}


def published(name: str) -> Table:
    """The paper's own rows."""
    table = Table(title=f"{name}: published (arXiv 2503.19731)")
    for title in ("method", "rounds", "FID", "latency", "speed-up", ""):
        table.add_column(title, justify="left" if title in ("method", "") else "right")
    for row in ROWS[name]:
        table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> list[str]:
    return [
        row.method,
        "" if row.rounds is None else str(row.rounds),
        "" if row.fid is None else f"{row.fid:.2f}",
        "" if row.seconds is None else f"{row.seconds:.2f} s",
        "" if row.speedup is None else f"{row.speedup:.2f}x",
        row.text,
    ]


def summary(config: Images, outcome: dict[str, Any]) -> Table:
    """Where each method is as good as the sequential sampler, and what a sample then takes."""
    table = Table(title=f"measured: {config.model.name}, {config.samples} samples")
    for title in ("method", "rounds", outcome["metric"], "latency / sequential", "speed-up"):
        table.add_column(title, justify="left" if title == "method" else "right")
    table.add_row("sequential", str(config.steps), f"{outcome['sequential']:.2f}", "1.00", "1.00x")
    for name, found in outcome["latency"].items():
        at = found["rounds"]
        parity = "" if outcome["parity"][name] else " (not as good)"
        value = outcome["fd"][name][at - 1]
        ratio = found["over_sequential"]
        table.add_row(name, f"{at}{parity}", f"{value:.2f}", f"{ratio:.2f}", f"{1 / ratio:.2f}x")
    return table


def curves(outcome: dict[str, Any]) -> Table:
    """FD after every round."""
    rounds = max(map(len, outcome["fd"].values()))
    table = Table(title=f"{outcome['metric']} after k rounds, against {outcome['reference']}")
    for title in ("method", *map(str, range(1, rounds + 1))):
        table.add_column(title, justify="left" if title == "method" else "right")
    for name, values in outcome["fd"].items():
        table.add_row(name, *(f"{value:.0f}" for value in values))
    return table
