"""This library's sampler. A line of OPTIONS is a line of the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

import pcm_jax as pcm
from experiments.common import study
from experiments.peers.problem import Case, Estimate

ROUNDS = 48
"""At most, of one run: many more than any of them needs to the smallest error."""


def tuned(case: Case, preview: bool = False) -> dict[str, Any]:
    """The shipped adapter with its measured switch, and the row that it shows."""
    assert case.adapter is not None
    options = study.tuned(case.adapter, case.prior)
    return options | ({"preview": case.adapter.preview} if preview else {})


OPTIONS: Mapping[str, Callable[[Case], dict[str, Any]]] = {
    "Picard": lambda case: {"linearization": pcm.linearization.identity()},
    "secant": lambda case: {},
    "secant + prior": lambda case: {"prior": case.prior},
    "PCM": lambda case: tuned(case),
    "PCM, preview": lambda case: tuned(case, preview=True),
}
"""Options of `sample_picard` for a case. Without a slope it is the secant."""
NEEDS_ADAPTER = ("PCM", "PCM, preview")
NEEDS_PRIOR = ("secant + prior",)


def ours(case: Case, name: str) -> Iterator[Estimate]:
    """The sample after each round; `tol=0` accepts a state when nothing changes any more."""
    r = case.recurrence
    given: dict[str, Any] = {"cond": r.cond, "step_noise": r.step_noise, "tol": 0.0, "return_rounds": True}
    limit = min(ROUNDS, len(r))
    out = pcm.sample_picard(r.model_fn, r.params, r.noise, r.solver, max_rounds=limit, **given, **OPTIONS[name](case))
    assert out.iterates is not None
    accepted = np.asarray(out.stats.accepted)
    evaluations = np.zeros(accepted.shape[1])
    known = np.zeros(accepted.shape[1], int)
    for index in range(int(np.max(out.stats.rounds))):
        evaluations = evaluations + len(r) - known
        known = np.where(accepted[index] < 0, len(r), accepted[index])
        yield Estimate(out.iterates[index], index + 1, evaluations)
