"""What better slopes save, from the prior's guess and from copies of the noise.

    python -m experiments.peers.slope_study

Slopes before there is history: 1; the mean of the prior's Jacobian over all directions, which is what `sample_picard`
takes with `prior=`; the least squares of F_i(x) - F_i(x*) on x - x* over other noises, x* the exact states; and the
prior's Jacobian itself. Then the secant, or Broyden's corrections (`experiments.peers.slopes`). Counted are rounds
until a sample's RMS error stays under .1, .01 and .001, as in `experiments.peers`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

import pcm_jax as pcm
from experiments.common.figures import RESULTS, command_line, write_result
from experiments.peers import report
from experiments.peers.fixed_point import Start, copies, iterate
from experiments.peers.measure import THRESHOLDS, measure
from experiments.peers.problem import SETTINGS, Case, image_case, pusht_case
from experiments.peers.slopes import Slopes
from pcm_jax import priors
from pcm_jax.types import Array

SAMPLES = {"digits": 32, "fashion": 8, "pusht": 32}
SHIPS = "guess, mean of the prior's Jacobian, secant"
"""What `sample_picard(.., prior=prior)` does."""


@dataclasses.dataclass(frozen=True)
class SlopeStudy:
    """models: which. samples: of each, by default few for fashion. data: demonstrations of Push-T."""

    models: tuple[str, ...] = tuple(SETTINGS)
    samples: int | None = None
    seed: int = 0
    data: Path | None = None
    out: Path = RESULTS


def guess(case: Case) -> Start:
    """The prior's trajectory; no network call."""
    r = case.recurrence
    assert case.prior is not None
    return Start(priors.trajectory(case.prior, r.solver, r.noise, r.step_noise, r.cond), 0, 0)


def least_squares(case: Case, start: Start) -> Array:
    """`[T, 1]`: the scalar that says best how far F_i(x) is from F_i(x*), over the samples of this case."""
    r = case.recurrence
    options: dict[str, Any] = {"cond": r.cond, "step_noise": r.step_noise, "return_trajectory": True}
    exact = pcm.sample_sequential(r.model_fn, r.params, r.noise, r.solver, **options).trajectory
    assert exact is not None
    axes = tuple(range(1, exact.ndim))
    off = start.states[:-1] - exact[:-1]
    ahead = r.steps(start.states[:-1]) - exact[1:]
    size = jnp.sum(off**2, axis=axes)
    return jnp.where(size > 0, jnp.sum(off * ahead, axis=axes) / jnp.where(size > 0, size, 1.0), 1.0)[:, None]


def variants(case: Case, other: Case) -> dict[str, tuple[Start, Slopes]]:
    """What is compared. other: the same with other noises, to measure a table on."""
    assert case.prior is not None
    r = case.recurrence
    near, far = guess(case), copies(r)
    one = jnp.ones((len(r), 1))
    mean = priors.slope(case.prior, r.solver, r.cond)
    mean = mean[:, None] if mean.ndim == 1 else mean
    return {
        "copies, slope 1, secant": (far, Slopes(case, one)),
        "copies, measured table, secant": (far, Slopes(case, least_squares(other, copies(other.recurrence)))),
        "guess, slope 1, secant": (near, Slopes(case, one)),
        SHIPS: (near, Slopes(case, mean)),
        "guess, mean of the prior's Jacobian, rank 1": (near, Slopes(case, mean, 1)),
        "guess, mean of the prior's Jacobian, rank 2": (near, Slopes(case, mean, 2)),
        "guess, measured table, secant": (near, Slopes(case, least_squares(other, guess(other)))),
        "guess, the prior's Jacobian, secant": (near, Slopes(case, None)),
        "guess, the prior's Jacobian, rank 1": (near, Slopes(case, None, 1)),
        "guess, the prior's Jacobian, rank 2": (near, Slopes(case, None, 2)),
    }


def run_slopes(config: SlopeStudy, console: Console) -> list[dict[str, Any]]:
    """Every variant on every model and sampler, the table and the JSON."""
    if unknown := [name for name in config.models if name not in SETTINGS]:
        raise ValueError(f"there is no {unknown[0]!r}; choose among {', '.join(SETTINGS)}")
    cells: list[dict[str, Any]] = []
    todo = [(model, solver) for model in config.models for solver in SETTINGS[model]]
    for model, solver in todo:
        samples = config.samples or SAMPLES[model]
        case, other = (
            pusht_case(solver, samples, seed, config.data)
            if model == "pusht"
            else image_case(model, solver, samples, seed)
            for seed in (config.seed, config.seed + 1)
        )
        compared = list(variants(case, other).items())
        for name, (start, rule) in track(compared, f"{model} {solver}", console=console):
            outcome = measure(case, lambda case, rule=rule, start=start: iterate(case, rule, start))  # type: ignore[misc]
            cells.append({"model": model, "solver": solver, "variant": name} | outcome)
    console.print(table(cells))
    plain = dataclasses.replace(config, data=None, out=Path("."))
    command = command_line("experiments.peers.slope_study", config, never=("data", "out"))
    write_result("slopes", {"cells": cells}, config=plain, seed=config.seed, command=command, results=config.out)
    return cells


def table(cells: list[dict[str, Any]]) -> Table:
    """A line for each variant, a column for each model and sampler."""
    settings = report.settings(cells)
    found = {(cell["variant"], cell["model"], cell["solver"]): cell for cell in cells}
    shown = Table(title="rounds to " + " / ".join(map(str, THRESHOLDS)))
    for title in ("slopes", *map(" ".join, settings)):
        shown.add_column(title, justify="left" if title == "slopes" else "right")
    for variant in dict.fromkeys(cell["variant"] for cell in cells):
        shown.add_row(variant, *(report.calls(found[variant, *setting]) for setting in settings))
    return shown


def main(config: SlopeStudy) -> None:
    """Measure all."""
    run_slopes(config, Console(width=160))


if __name__ == "__main__":
    main(tyro.cli(SlopeStudy))
