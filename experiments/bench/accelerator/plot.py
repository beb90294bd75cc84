"""Speed-ups on one accelerator as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from experiments.common.plots import ACCELERATED, PLAIN, SEQUENTIAL, TUNED


def speedups(
    samplers: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], path: Path, *, title: str
) -> None:
    """Speed-up over the sequential sampler of every method, a panel for each batch size; and what rows cost.

    Args:
        samplers: {"model", "solver", "batch", "method", "speedup", "certified"}.
        rows: {"model", "rows", "seconds"} of the bare network.
        path: the PNG.
        title: the device.
    """
    methods = {"Picard": PLAIN, "secant": ACCELERATED, "secant + prior": "#7a4fa3", "PCM": "#c23b75", "tuned": TUNED}
    batches = sorted({row["batch"] for row in samplers})
    figure, axes = plt.subplots(1, len(batches) + 1, figsize=(4.6 * (len(batches) + 1), 4.0), squeeze=False)
    for axis, batch in zip(axes[0], batches, strict=False):
        chosen = [row for row in samplers if row["batch"] == batch]
        models = list(dict.fromkeys(row["model"] for row in chosen))
        for index, (method, colour) in enumerate(methods.items()):
            found = {row["model"]: row for row in chosen if row["method"] == method}
            places = [models.index(model) + 0.16 * (index - 2) for model in found]
            heights = [row["speedup"] for row in found.values()]
            # Pale where not every sample was certified.
            strengths = [1.0 if row["certified"] == 1 else 0.35 for row in found.values()]
            for place, height, alpha in zip(places, heights, strengths, strict=True):
                axis.bar(place, height, 0.15, color=colour, alpha=alpha)
            axis.bar(0, 0, color=colour, label=method)
        axis.axhline(1.0, color=SEQUENTIAL, linewidth=0.8, linestyle=":")
        solvers = {row["model"]: row["solver"] for row in chosen}
        axis.set_xticks(range(len(models)), [f"{model}\n{solvers[model]}" for model in models], fontsize=7)
        axis.set_title(f"batch {batch}", fontsize=10)
        axis.grid(alpha=0.3, axis="y")
    axes[0, 0].set_ylabel("sequential seconds / seconds")
    if batches:
        axes[0, 0].legend(fontsize=8)
    last = axes[0, -1]
    for model in dict.fromkeys(row["model"] for row in rows):
        curve = [row for row in rows if row["model"] == model]
        last.loglog([row["rows"] for row in curve], [1e3 * row["seconds"] for row in curve], marker="o", label=model)
    last.set_xlabel("rows of one network call")
    last.set_ylabel("milliseconds")
    last.grid(alpha=0.3)
    if rows:
        last.legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
