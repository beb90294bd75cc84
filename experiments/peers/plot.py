"""The leaderboard as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt


def leaderboard(
    cells: Sequence[Mapping[str, Any]],
    path: Path,
    *,
    settings: Sequence[tuple[str, str]],
    order: Sequence[str],
    styles: Mapping[str, Mapping[str, Any]],
    furthest: int,
    bottom: float = 1e-4,
) -> None:
    """Error of the sample against the network calls behind it: a panel for each setting, a line for each method.

    Args:
        cells: {"model", "solver", "method", "calls", "error"}.
        path: the PNG.
        settings: the panels.
        order: methods that are drawn.
        styles: colour, dashes and marker of each.
        furthest: network call at which the axis ends.
        bottom: of the error's axis.
    """
    figure, axes = plt.subplots(1, len(settings), figsize=(4.4 * len(settings) + 2.2, 4.2), sharey=True, squeeze=False)
    found = {(cell["model"], cell["solver"], cell["method"]): cell for cell in cells}
    handles = {}
    for axis, (model, solver) in zip(axes[0], settings, strict=True):
        for name in order:
            if (cell := found.get((model, solver, name))) is None:
                continue
            style = {"linewidth": 1.2, "marker": "o", "markersize": 3 if len(cell["calls"]) > 1 else 9, **styles[name]}
            (handles[name],) = axis.semilogy(cell["calls"], np.maximum(cell["error"], 1e-7), label=name, **style)
        axis.set_title(f"{model} {solver}", fontsize=10)
        axis.set_xlabel("network calls, one after the other")
        axis.set_xlim(0, furthest)
        axis.set_ylim(bottom, 3)
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("RMS error against the sequential sample")
    lines = [handles[name] for name in order if name in handles]
    figure.legend(handles=lines, loc="center right", fontsize=8, handlelength=4)
    figure.tight_layout(rect=(0, 0, 1 - 1.9 / figure.get_figwidth(), 1))
    figure.savefig(path, dpi=110)
    plt.close(figure)
