"""The bound and the true error against rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from experiments.common.plots import count_rounds

ROUNDS = 30
"""Shown at most."""
_COLORS = {"Picard": "tab:gray", "secant": "tab:blue", "secant, prior": "tab:orange", "PCM": "tab:green"}


def bounds(curves: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A panel for each model: median and 10-90 % of the samples, solid the true error, dashed the bound."""
    names = list(dict.fromkeys((curve["model"], curve["solver"]) for curve in curves))
    figure, axes = plt.subplots(1, len(names), figsize=(3.6 * len(names), 3.8), sharey=True, squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        for curve in (curve for curve in curves if (curve["model"], curve["solver"]) == name):
            color = _COLORS[curve["method"]]
            for key, dash in (("error", "-"), ("bound", "--")):
                low, middle, high = np.array(curve[key], float)
                rounds = np.arange(1, len(middle) + 1)
                label = curve["method"] if key == "error" else None
                axis.semilogy(
                    rounds, np.where(middle > 0, middle, np.nan), dash, color=color, linewidth=1.4, label=label
                )
                axis.fill_between(rounds, np.maximum(low, 1e-9), np.maximum(high, 1e-9), color=color, alpha=0.12)
        axis.set_title(", ".join(name), fontsize=10)
        axis.set_ylim(1e-6, 30)
        count_rounds(axis)
    axes[0, 0].set_ylabel("RMS, units of the data\n(solid: error, dashed: bound)")
    axes[0, 0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
