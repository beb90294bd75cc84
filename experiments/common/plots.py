"""Pictures: grids of samples, and error and its bound against rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

matplotlib.rcParams["svg.hashsalt"] = "pcm_jax"  # ids in an SVG are random without one
SEQUENTIAL, PLAIN, ACCELERATED, TUNED = "#555555", "#d1704a", "#2f6fb0", "#3a8f5a"


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """One picture `[rows * H, columns * W]` (`[.., 3]` in colour) in 0..1, images a white pixel apart.

    images: `[N, H, W, 1 or 3]`, in -1..1 or uint8.
    """
    images = np.asarray(images)
    scaled = images / 255 if images.dtype == np.uint8 else (images.astype(np.float64) + 1) / 2
    padding = ((0, -len(images) % columns), (0, 1), (0, 1), (0, 0))
    padded = np.pad(np.clip(scaled, 0, 1), padding, constant_values=1.0)
    count, height, width, channels = padded.shape
    grid = padded.reshape(count // columns, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    whole = grid.reshape(count // columns * height, columns * width, channels)
    return whole[..., 0] if channels == 1 else whole


def image_grids(panels: Mapping[str, np.ndarray], path: Path, *, columns: int = 8, title: str = "") -> None:
    """Panels of images side by side, each under its name."""
    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 4.1), squeeze=False)
    for axis, (name, images) in zip(axes[0], panels.items(), strict=True):
        axis.imshow(tile(images, columns), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(name, fontsize=10)
        axis.set_axis_off()
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)


def convergence(curves: Sequence[Mapping[str, Any]], path: Path, *, tol: float) -> None:
    """Error against the sequential sample, and the bound on it that the sampler sees, after every round.

    Args:
        curves: {"solver", "method", "error", "bound"}, one entry a round, None where no bound is known.
        path: the PNG.
        tol: drawn as a line through the bounds.
    """
    names = list(dict.fromkeys(curve["solver"] for curve in curves))
    figure, axes = plt.subplots(
        2, len(names), figsize=(3.1 * len(names), 5.2), sharex="col", sharey="row", squeeze=False
    )
    for column, name in enumerate(names):
        for curve in (curve for curve in curves if curve["solver"] == name):
            style = {"marker": "o", "markersize": 2.5, "linewidth": 1.2, "label": curve["method"]}
            style |= METHOD_STYLES[curve["method"]]
            for axis, key in zip(axes[:, column], ("error", "bound"), strict=True):
                axis.semilogy(range(1, len(curve[key]) + 1), np.array(curve[key], float), **style)
        axes[0, column].set_title(name, fontsize=10)
        axes[1, column].axhline(tol, color=SEQUENTIAL, linewidth=0.8, linestyle="--")
        axes[1, column].set_xlabel("rounds")
        axes[1, column].xaxis.set_major_locator(MaxNLocator(integer=True))
        for axis in axes[:, column]:
            axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("RMS error against\nthe sequential sample")
    axes[1, 0].set_ylabel("error bound\n(dashed: tolerance)")
    axes[0, 0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def sweep(rows: Sequence[Mapping[str, Any]], path: Path, *, tol: float = 1e-2) -> None:
    """Rounds over the sequential steps at one tolerance: solvers along x, a bar for each slope and window."""
    rows = [row for row in rows if row["tol"] == tol and row["slope"] in ("identity", "secant")]
    names = list(dict.fromkeys(row["solver"] for row in rows))
    windows = list(dict.fromkeys(row["window"] for row in rows))
    figure, axes = plt.subplots(1, len(names), figsize=(2.0 * len(names), 3.2), sharey=True, squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        for offset, (slope, color) in enumerate((("identity", PLAIN), ("secant", ACCELERATED))):
            for place, window in enumerate(windows):
                found = [r for r in rows if (r["solver"], r["window"], r["slope"]) == (name, window, slope)]
                height = found[0]["rounds"] / found[0]["steps"] if found else 0.0
                axis.bar(place + 0.4 * offset, height, 0.38, color=color, label=slope if not place else None)
        axis.set_xticks(np.arange(len(windows)) + 0.2, [str(window or "all") for window in windows])
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("window")
        axis.grid(axis="y", alpha=0.3)
    axes[0, 0].set_ylabel(f"rounds / steps, tol {tol:g}")
    axes[0, 0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def rounds_grid(
    early: Mapping[str, Sequence[np.ndarray]], exact: np.ndarray, path: Path, *, images: int = 32, across: int = 8
) -> None:
    """A line of grids for each method: its images after 1, 2, .. rounds, and the exact ones at the right."""
    columns = 1 + max(map(len, early.values()))
    figure, axes = plt.subplots(len(early), columns, figsize=(2.3 * columns, 1.45 * len(early)), squeeze=False)
    for line, (method, after) in zip(axes, early.items(), strict=True):
        for index, (axis, shown) in enumerate(zip(line, [*after, exact], strict=True)):
            axis.imshow(tile(shown[:images], across), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            if axis in axes[0]:
                rounds = f"{index + 1} round" + "s" * (index > 0)
                axis.set_title("sequential" if index == len(after) else rounds, fontsize=9)
        line[0].set_ylabel(method.replace(", ", "\n"), fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


METHOD_STYLES: dict[str, dict[str, Any]] = {
    "Picard": {"color": PLAIN, "linestyle": "--"},
    "Picard + secant": {"color": ACCELERATED, "linestyle": "--"},
    "secant + prior": {"color": "#7a4fa3", "linestyle": "-."},
    "PCM": {"color": "#c23b75"},
    "PCM + secant": {"color": "#1f9e9e"},
    "PCM-LoRA": {"color": TUNED},
    "PCM-LoRA + secant": {"color": TUNED, "linestyle": "-."},
    "PCM-LoRA + secant, preview": {"color": TUNED, "linestyle": ":"},
    "PCM, preview": {"color": "#c23b75", "linestyle": ":"},
    "PCM + secant, preview": {"color": "#1f9e9e", "linestyle": ":"},
}


def count_rounds(axis: Axes) -> None:
    """Whole rounds along x, and a grid."""
    axis.set_xlabel("rounds")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)


def errors(curves: Sequence[Mapping[str, Any]], path: Path, *, exact: float, bottom: float = 1e-4) -> None:
    """Error of the sample after every round, a panel for each solver, a line for each method.

    Args:
        curves: {"solver", "method", "error"}, one entry a round.
        path: the PNG or SVG.
        exact: drawn as a line: the error that nobody sees.
        bottom: of the axis.
    """
    solvers = list(dict.fromkeys(curve["solver"] for curve in curves))
    figure, axes = plt.subplots(1, len(solvers), figsize=(4.2 * len(solvers), 3.6), sharey=True, squeeze=False)
    for axis, solver in zip(axes[0], solvers, strict=True):
        for curve in (curve for curve in curves if curve["solver"] == solver):
            error = np.maximum(curve["error"], 1e-6)
            style = {"marker": "o", "markersize": 3, "linewidth": 1.3} | METHOD_STYLES.get(curve["method"], {})
            axis.semilogy(range(1, len(error) + 1), error, label=curve["method"], **style)
        axis.axhline(exact, color=SEQUENTIAL, linewidth=0.8, linestyle=":")
        axis.set_title(solver, fontsize=10)
        axis.set_ylim(bottom=bottom)
        count_rounds(axis)
    axes[0, 0].set_ylabel("RMS error against the sequential sample\n(dotted: visually exact)")
    axes[0, 0].legend(fontsize=8)
    figure.tight_layout()
    # A drawing of the same numbers is the same file: without a date.
    figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def frechet(fd: Mapping[str, Sequence[float]], path: Path, *, title: str) -> None:
    """FD after every round of the last states and of the previews, the sequential sampler's as a level."""
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.6), sharex=True, sharey=True)
    for axis, suffix, shown in zip(axes, ("", ", preview"), ("last state", "preview"), strict=True):
        for method, style in METHOD_STYLES.items():
            if method.endswith("preview") or (values := fd.get(method + suffix)) is None:
                continue
            axis.semilogy(range(1, len(values) + 1), values, marker="o", markersize=3, label=method, **style)
        axis.axhline(fd["sequential"][0], color=SEQUENTIAL, linewidth=0.8, linestyle=":", label="sequential")
        axis.set_title(f"{title}: {shown}", fontsize=10)
        count_rounds(axis)
    axes[0].set_ylabel("FD on EfficientNet-Lite0 features")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def paper(outcome: Mapping[str, Any], path: Path) -> None:
    """FD after every round of each method; the sequential sampler's after as many steps, and at its end as a level."""
    figure, axis = plt.subplots(figsize=(5.6, 3.8))
    for method, values in outcome["fd"].items():
        style = METHOD_STYLES.get(method, {"color": SEQUENTIAL})
        axis.semilogy(range(1, len(values) + 1), values, marker="o", markersize=3, label=method, **style)
    axis.axhline(outcome["sequential"], color=SEQUENTIAL, linewidth=0.8, linestyle=":", label="sequential, all steps")
    axis.set_ylabel(outcome["metric"])
    count_rounds(axis)
    axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def latency(networks: Mapping[str, Any], path: Path) -> None:
    """How many rows are free, and the time of a decision over the sequential one's against its rounds."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.6))
    for (name, outcome), marker in zip(networks.items(), "osv^D", strict=False):
        rows = outcome["rows"]
        left.loglog([r["rows"] for r in rows], [r["over_one_row"] for r in rows], marker=marker, label=name)
        for method, dashes in (("Picard", "--"), ("PCM", "-")):
            chosen = [d for d in outcome["decisions"] if d["method"] == method and not d["window"] and d["batch"] == 1]
            if chosen:
                ratios = [d["over_sequential"] for d in chosen]
                label = f"{name}, {method}"
                right.plot([d["rounds"] for d in chosen], ratios, dashes, marker=marker, label=label)
    left.set_xlabel("rows of one network call")
    left.set_ylabel("time / time of one row")
    right.axhline(1.0, color=SEQUENTIAL, linewidth=0.8, linestyle=":", label="sequential")
    right.set_yscale("log")
    right.set_xlabel("rounds of a decision, batch 1")
    right.set_ylabel("time / sequential")
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
