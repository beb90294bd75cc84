"""The leaderboard on the console and as a picture; the site's table is made by experiments.site.readme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from experiments.common import plots
from experiments.peers.measure import THRESHOLDS
from experiments.peers.methods import METHODS
from experiments.peers.plot import leaderboard

Cells = Sequence[Mapping[str, Any]]

STYLES: dict[str, dict[str, Any]] = {
    "ParaDiGMS": {"color": plots.PLAIN, "linestyle": "--"},
    "ParaTAA": {"color": "#8c6bb1", "linestyle": (0, (5, 1, 1, 1))},
    "ParaSolver": {"color": "#c2a029", "linestyle": (0, (4, 2))},
    "SRDS": {"color": "#a05a2c", "linestyle": (0, (1, 1)), "marker": "s"},
    "CHORDS": {"color": "#d16ba5", "linestyle": (0, (3, 1, 1, 1, 1, 1)), "marker": "^"},
    "Anderson": {"color": "#4b9ca8", "linestyle": (0, (6, 2, 1, 2))},
    "quasi-DEER": {"color": "#7f7f7f", "linestyle": (0, (2, 1))},
    "DEER, exact Jacobian": {"color": "#111111", "linestyle": ":"},
    "DDIM-10": {"color": "#b22222", "marker": "x", "linestyle": "none"},
    "DDIM-20": {"color": "#b22222", "marker": "+", "linestyle": "none"},
    "DPM++-10": {"color": "#556b2f", "marker": "*", "linestyle": "none"},
    "ours: secant": {"color": plots.ACCELERATED, "linewidth": 2.0},
    "ours: secant + prior": {"color": "#7a4fa3", "linewidth": 2.0, "linestyle": "-."},
    "ours: PCM": {"color": plots.TUNED, "linewidth": 2.0, "linestyle": (0, (7, 1))},
    "ours: PCM, preview": {"color": plots.TUNED, "linewidth": 2.0, "linestyle": (0, (1, 1))},
}
"""A colour and dashes for each; a method that is not here is not drawn (ours: Picard is ParaDiGMS)."""


def settings(cells: Cells) -> list[tuple[str, str]]:
    """(model, solver), in order."""
    return list(dict.fromkeys((cell["model"], cell["solver"]) for cell in cells))


def calls(cell: Mapping[str, Any]) -> str:
    """Mean calls to each threshold; a dash where some sample never gets there."""
    means = (cell["reached"][str(threshold)]["calls"] for threshold in THRESHOLDS)
    return " / ".join("-" if mean is None else f"{mean:.1f}" for mean in means)


def table(cells: Cells, model: str, solver: str) -> Table:
    """One setting."""
    made = Table(title=f"{model} {solver}: mean network calls, one after the other, to RMS error .1 / .01 / .001")
    for title in ("method", "calls", "evaluations to .01", "last error", "best"):
        made.add_column(title, justify="left" if title in ("method", "best") else "right")
    for cell in cells:
        if (cell["model"], cell["solver"]) == (model, solver):
            rows = cell["reached"]["0.01"]["evaluations"]
            last = f"{cell['error'][-1]:.1e} after {cell['calls'][-1]}"
            made.add_row(cell["method"], calls(cell), "-" if rows is None else f"{rows:.0f}", last, cell["variant"])
    return made


def draw(cells: Cells, path: Path, *, furthest: int = 30) -> None:
    """Error against network calls, one panel for each setting."""
    drawn = [name for name in METHODS if name in STYLES]
    leaderboard(cells, path, settings=settings(cells), order=drawn, styles=STYLES, furthest=furthest)
