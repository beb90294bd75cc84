"""A plan as a picture: seconds against the window, and what rows cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pcm_jax.tuning.plan import Plan


def draw(plan: Plan, path: str | Path | None) -> Figure:
    """The figure, also written to `path`."""
    try:
        # Without pyplot: nothing is drawn on a screen, and the caller's own figures and backend stay as they are.
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Plan.plot needs matplotlib: python -m pip install matplotlib") from error

    model = plan.cost
    figure = Figure(figsize=(9.2, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    if plan.runs:
        windows = range(1, plan.steps + 1)
        predicted = [1e3 * model.seconds(size, model.microbatch(size)) for size in windows]
        left.plot(windows, predicted, color="#2f6fb0", label="predicted")
    for run, label in zip(plan.runs, ["measured", *[None] * len(plan.runs)], strict=False):
        filled = "#2f6fb0" if run.converged else "white"
        left.plot(run.window, 1e3 * run.seconds, "o", color="#2f6fb0", markerfacecolor=filled, label=label)
        text = f"{run.rounds:.3g} rounds" if run.converged else "not done by here"
        left.annotate(
            text, (run.window, 1e3 * run.seconds), (0, 6), textcoords="offset points", ha="center", fontsize=7
        )
    left.axhline(1e3 * plan.sequential_seconds, color="#555555", linestyle=":", label="sequential")
    if not plan.sequential and plan.seconds is not None:
        left.plot(plan.window, 1e3 * plan.seconds, "*", color="#3a8f5a", markersize=13, label="the plan")
    left.set_xlim(0, 1.05 * plan.steps)
    left.set_yscale("log")
    left.margins(y=0.15)
    left.set_xlabel("window")
    left.set_ylabel(f"milliseconds of {plan.steps} steps")
    rows, seconds = zip(*plan.rows, strict=True)
    right.loglog(rows, [1e3 * each for each in seconds], "o-", color="#d1704a", label="one network call")
    proportional = [1e3 * seconds[0] * each / rows[0] for each in rows]
    right.loglog(rows, proportional, color="#555555", linestyle=":", label="if every row cost the same")
    right.set_xlabel("network rows")
    right.set_ylabel("milliseconds")
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    words = plan.advice if len(plan.advice) <= 120 else f"{plan.advice[:118]}.."
    figure.suptitle(f"{plan.device}: {words}", fontsize=8)
    if path is not None:
        figure.savefig(path, dpi=110)
    return figure
