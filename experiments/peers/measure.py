"""How far a method is from the sequential sample after each network call, for every sample on its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.peers.problem import Case, Run
from pcm_jax.metrics import rounds_to

THRESHOLDS = (0.1, 0.01, 0.001)
"""RMS errors of a sample, in units of the data."""
MIDDLE = str(THRESHOLDS[1])
DONE = THRESHOLDS[-1] / 10
"""A method is stopped once no sample is further off than this."""


def best(case: Case, variants: Mapping[str, Run]) -> dict[str, Any]:
    """The variant that needs the fewest calls to the middle error, or is nearest where none gets there."""
    found = [measure(case, run) | {"variant": name} for name, run in variants.items()]

    def rank(outcome: dict[str, Any]) -> tuple[float, float, float]:
        reached = outcome["reached"][MIDDLE]
        mean = np.inf if reached["calls"] is None else reached["calls"]
        return reached["missed"], mean, outcome["error"][-1]

    return min(found, key=rank) | {"variants": [outcome["variant"] for outcome in found]}


def measure(case: Case, run: Run) -> dict[str, Any]:
    """Curve and calls to each threshold.

    Returns:
        calls: network calls, one after the other, behind each estimate. error: RMS over samples and dimensions of each.
        evaluations: mean network rows of a sample. reached: threshold -> mean and 95 % quantile over samples of the
        calls after which the error stays under it, mean evaluations until then, and the share of samples that never
        get there; means are None unless all do.
    """
    dims = tuple(range(1, case.exact.ndim))
    calls, evaluations, errors = [], [], []
    for estimate in run(case):
        difference = np.asarray(estimate.sample, np.float64) - case.exact
        errors.append(np.sqrt(np.mean(difference**2, axis=dims)))
        calls.append(estimate.calls)
        evaluations.append(np.broadcast_to(estimate.evaluations, errors[-1].shape))
        if np.max(errors[-1]) <= DONE:
            break
    error, rows = np.stack(errors), np.stack(evaluations)
    return {
        "calls": calls,
        "error": [float(value) for value in np.sqrt(np.mean(error**2, axis=1))],
        "evaluations": [float(value) for value in rows.mean(axis=1)],
        "reached": {str(threshold): _reached(calls, error, rows, threshold) for threshold in THRESHOLDS},
        "samples": error.shape[1],
    }


def _reached(calls: list[int], error: np.ndarray, rows: np.ndarray, threshold: float) -> dict[str, Any]:
    at = [rounds_to(curve, threshold) for curve in error.T.tolist()]
    there = [index - 1 for index in at if index is not None]
    missed = 1 - len(there) / len(at)
    if missed:
        return {"calls": None, "p95": None, "evaluations": None, "missed": missed}
    taken = np.asarray(calls)[there]
    return {
        "calls": float(np.mean(taken)),
        "p95": float(np.quantile(taken, 0.95, method="higher")),
        "evaluations": float(np.mean(rows[there, np.arange(len(there))])),
        "missed": 0.0,
    }
