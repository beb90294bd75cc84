"""FD and KID against independent implementations, on random features.

    python -m experiments.parity.metrics

FD against the formula of pytorch-fid, scipy's square root of the product of the covariances; KID against its definition
as three sums over pairs. Sets have as many samples as a table's row, 2048 dimensions included, and arrive in batches.
Writes metrics.json and the figures `metrics.fd_relative_error` and `metrics.kid_relative_error`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import tyro
from rich.console import Console
from rich.progress import track

from experiments.common.figures import RESULTS, command_line, record, write_result
from pcm_jax.metrics import Moments, frechet_distance, kernel_distance


@dataclasses.dataclass(frozen=True)
class Config:
    """cases: (dimensions, samples) of every comparison. results: where to write."""

    cases: tuple[tuple[int, int], ...] = ((8, 100), (64, 1000), (512, 2000), (1280, 5000), (2048, 5000))
    seed: int = 0
    results: Path = RESULTS


def features(dimensions: int, count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two sets, positive and correlated as a network's are."""
    mix = random.standard_normal((dimensions, dimensions)) / np.sqrt(dimensions)
    a, b = (random.standard_normal((count, dimensions)) @ mix for _ in range(2))
    return np.maximum(a, 0.0), np.maximum(1.2 * b + 0.1, 0.0)


def reference_fd(a: np.ndarray, b: np.ndarray) -> float:
    """As pytorch-fid computes it."""
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    apart = a.mean(0) - b.mean(0)
    return float(apart @ apart + np.trace(s) + np.trace(t) - 2 * np.trace(scipy.linalg.sqrtm(s @ t).real))


def reference_kid(a: np.ndarray, b: np.ndarray) -> float:
    """Row by row, pairs of a sample with itself left out."""
    count, dimensions = a.shape

    def kernel(x: np.ndarray, others: np.ndarray) -> float:
        return float(np.sum((others @ x / dimensions + 1) ** 3))

    own = sum(kernel(x, np.delete(each, i, 0)) for each in (a, b) for i, x in enumerate(each))
    cross = sum(kernel(x, b) for x in a)
    return own / (count * (count - 1)) - 2 * cross / count**2


def main(config: Config) -> dict[str, Any]:
    """Compare, print, write."""
    console, rows = Console(), []
    random = np.random.default_rng(config.seed)
    for dimensions, count in track(config.cases, "cases", console=console):
        a, b = features(dimensions, count, random)
        moments = []
        for each in (a, b):
            streamed = Moments.empty(dimensions)
            for part in np.array_split(each, 7):
                streamed = streamed.with_batch(part)
            moments.append(streamed)
        few = min(count, 500)
        fd, wanted = frechet_distance(*moments), reference_fd(a, b)
        kid, _ = kernel_distance(a[:few], b[:few], subsets=1, subset_size=few)
        wanted_kid = reference_kid(a[:few], b[:few])
        rows.append(
            {
                "dimensions": dimensions,
                "samples": count,
                "fd": fd,
                "fd_relative_error": abs(fd - wanted) / wanted,
                "kid_relative_error": abs(kid - wanted_kid) / abs(wanted_kid),
            }
        )
        console.print(rows[-1])
    command = command_line("experiments.parity.metrics", config, never=("results",))
    write_result(
        "metrics",
        {"rows": rows},
        config={"cases": config.cases},
        seed=config.seed,
        command=command,
        results=config.results,
    )
    for name in ("fd_relative_error", "kid_relative_error"):
        record(f"metrics.{name}", max(row[name] for row in rows), command=command, results=config.results)
    return {"rows": rows}


if __name__ == "__main__":
    main(tyro.cli(Config))
