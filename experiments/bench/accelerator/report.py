"""What was measured as a table, a picture and headline figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from experiments.bench.accelerator.plot import speedups

GOALS = {"fashion": "gpu.fashion_ddim100", "emoji32": "gpu.emoji32_ddim100"}
GOALS |= {"digits": "gpu.digits_ddim50", "pusht": "gpu.pusht_ddpm100"}


def figures(content: Mapping[str, Any]) -> dict[str, float]:
    """Sequential over parallel seconds of the fastest certified way to sample one image or decision, on a GPU."""
    if content["platform"] != "gpu":
        return {}
    found = {}
    for model, name in GOALS.items():
        rows = [row for part in ("samplers", "tuned") for row in content["parts"].get(part, ())]
        ways = [row["speedup"] for row in rows if row["model"] == model and row["batch"] == 1 and row["certified"] == 1]
        if ways:
            found[name] = max(ways)
    return found


def table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """A line for each row of samplers."""
    out = Table(title=title)
    numeric = ("batch", "rounds", "seconds", "speed-up", "error", "bound", "certified", "compiled in")
    for column in ("model", "solver", "batch", "method", *numeric[1:]):
        out.add_column(column, justify="right" if column in numeric else "left")
    for row in rows:
        kinds = [row[kind] for kind in ("precision", "command_buffers") if kind in row]
        method = ", ".join([row["method"], *kinds])
        out.add_row(
            row["model"],
            row["solver"],
            str(row["batch"]),
            method,
            str(row["rounds"]),
            f"{row['seconds']:.3g}",
            f"{row['speedup']:.2f}",
            _small(row["worst_error"]),
            _small(row["error_bound"]),
            f"{row['certified']:.0%}",
            f"{row['compile_seconds']:.1f} s",
        )
    return out


def _small(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}" if value else "0"


def plot(content: Mapping[str, Any], path: Path) -> None:
    """Speed-up of every method, and what rows cost on this device."""
    parts = content["parts"]
    speedups(
        [row for part in ("samplers", "tuned") for row in parts.get(part, ())],
        parts.get("rows", ()),
        path,
        title=content["device_kind"],
    )
