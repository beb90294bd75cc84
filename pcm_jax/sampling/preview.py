"""Rows that are shown before a run has converged, and the solver that they were measured on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pcm_jax import checks
from pcm_jax.solvers import Solver


class MeasuredRows(tuple[int, ...]):
    """The row to show after 1, 2, .. rounds, and the solver that this was measured on, which `sample_picard` asks for.

    solver: its name, "" if nobody knows. num_steps: its T.
    """

    solver: str
    num_steps: int

    def __new__(cls, rows: Iterable[int], solver: str, num_steps: int) -> MeasuredRows:
        made = super().__new__(cls, (int(row) for row in rows))
        made.solver, made.num_steps = solver, num_steps
        return made

    def __reduce__(self) -> Any:
        return MeasuredRows, (tuple(self), self.solver, self.num_steps)


def check_preview(preview: Any, solver: Solver) -> None:
    """Rows of this solver, one for each number of rounds."""
    steps = len(solver)
    kept = isinstance(preview, Sequence) or (isinstance(preview, np.ndarray) and preview.ndim == 1)
    if not kept or isinstance(preview, (str, bytes)) or not len(preview):
        raise ValueError(
            f"preview must hold a row for each number of rounds, such as (40, 44, {steps}), got {preview!r}"
        )
    for row in preview:
        checks.whole("preview", row, 0, steps, "rows of the solver, one for each number of rounds")
    if not isinstance(preview, MeasuredRows):
        return
    others = preview.num_steps != steps or (preview.solver and _plain(preview.solver) != _plain(solver.name))
    if others:
        raise ValueError(
            f"these preview rows were measured on {preview.solver or 'a solver'} of {preview.num_steps} rows, this is "
            f"{solver.name} of {steps}; measure them with pcm_jax.training.measure_preview, or give rows of your own "
            "as a plain tuple"
        )


def _plain(name: str) -> str:
    """DPM-Solver++-20 and dpm_solver_pp-20 are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("+", "p"))
