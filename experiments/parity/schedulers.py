"""Every scheduler configuration that `load_scheduler` reads, against diffusers' own step loops.

    make parity

runs diffusers' half over all cases of tests/reference/scheduler_cases.py in an environment of its own, then

    python -m experiments.parity.schedulers --reference experiments/out/parity/schedulers

which runs ours and writes experiments/results/schedulers.json, and the figures `schedulers.same`, the share of the
configurations that diffusers runs to a finite sample whose samples agree to 1e-4 of the largest value, and
`schedulers.refused`, the share that is answered by a ValueError. diffusers computes coefficients in float32; where that
alone moves its sample by more than 1e-5, agreement with its own steps computed in float64 counts too, and is reported
apart.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.progress import track

import pcm_jax as pcm
from experiments.common.figures import RESULTS, record, write_result
from pcm_jax.pretrained.diffusers.scheduler_config import complete
from pcm_jax.pretrained.diffusers.schedulers import build_scheduler
from pcm_jax.solvers import Solver
from pcm_jax.types import Array
from tests.reference import scheduler_cases

COMMAND = "make parity"
BOUND = 1e-4
SAME, REFUSED = 0.99, 0.01


@dataclasses.dataclass(frozen=True)
class Config:
    """reference: the folder that make_schedulers.py wrote. results: where to write. name: one class, no figures."""

    reference: Path
    results: Path = RESULTS
    name: str | None = None


def network(params: Any, x: Array, t: Array, cond: Any) -> Array:
    """The formula that stands for a network."""
    time = t.reshape((-1,) + (1,) * (x.ndim - 1)).astype(x.dtype)
    found: Array = scheduler_cases.network(x, time, jnp)
    return found


def solver_of(full: dict[str, Any], steps: int, call: dict[str, Any]) -> Solver:
    """What `load_scheduler(..).solver(steps)` makes of a complete configuration."""
    name, config = complete(full, "scheduler_config.json")
    return build_scheduler(name, config, "scheduler_config.json").solver(steps, **call)


def sample(solver: Solver) -> np.ndarray:
    """The sequential sample, float64 under jax.enable_x64."""
    first, draws = scheduler_cases.noise()
    # One name for all tables, so that those of one shape share what is compiled.
    solver = dataclasses.replace(solver, name="case")
    noise = jnp.asarray(draws[: len(solver)]) if solver.stochastic else None
    return np.asarray(pcm.sample_sequential(network, None, jnp.asarray(first), solver, step_noise=noise).sample)


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """max|found - expected| / max|expected|; inf for what is not finite."""
    error = float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))
    return error if np.isfinite(error) else float("inf")


def compare(case: dict[str, Any], expected: np.ndarray, exact: np.ndarray | None) -> tuple[str, float | str]:
    """same, same as float64, differs or refused, and the error or the refusal; exact: theirs in float64."""
    try:
        found = sample(solver_of(case["full"], case["steps"], case["call"]))
    except ValueError as refusal:
        return "refused", str(refusal)
    error = difference(found, expected)
    if error < BOUND:
        return "same", error
    if exact is not None and difference(found, exact) < BOUND:
        return "same as float64", difference(found, exact)
    return "differs", error


def main(config: Config) -> None:
    """Compare everything; exit 1 below the bounds."""
    console = Console()
    about = json.loads((config.reference / "schedulers.json").read_text())
    arrays = np.load(config.reference / "schedulers.npz")
    ran = [(number, case) for number, case in enumerate(about["cases"]) if "error" not in case]
    ran = [(number, case) for number, case in ran if config.name in (None, case["name"])]
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    others: list[dict[str, Any]] = []
    worst = 0.0
    for number, case in track(ran, "configurations", console=console):
        exact = arrays[f"{number}/float64"] if case["moves"] >= scheduler_cases.MOVES else None
        with jax.enable_x64(True):
            outcome, detail = compare(case, arrays[str(number)], exact)
        counts[case["name"]][outcome] += 1
        if outcome.startswith("same"):
            worst = max(worst, float(detail))
        else:
            others.append({key: case[key] for key in ("name", "config", "steps")} | {"is": outcome, "why": detail})
    total = sum(counts.values(), collections.Counter())
    for name, found in counts.items():
        console.print(f"{name}: {dict(found)}")
    number = sum(total.values())
    same = (total["same"] + total["same as float64"]) / number
    refused = total["refused"] / number
    console.print(f"{number} configurations: same {same:.4f}, refused {refused:.4f}, largest error {worst:.1e}")
    console.print(
        f"{total['same as float64']} of them as in float64; {len(about['cases']) - len(ran)} not run by diffusers"
    )
    if config.name is not None:
        for other in others[:40]:
            console.print(other)
        return
    payload = {
        "counts": {name: dict(found) for name, found in sorted(counts.items())},
        "not_run_by_diffusers": len(about["cases"]) - len(ran),
        "largest_error_of_the_same": worst,
        "others": others[:200],
        "reference": about["versions"],
    }
    bounds = {"bound": BOUND, "moves": scheduler_cases.MOVES}
    write_result("schedulers", payload, config=bounds, seed=0, command=COMMAND, results=config.results)
    record("schedulers.same", same, command=COMMAND, results=config.results)
    record("schedulers.refused", refused, command=COMMAND, results=config.results)
    if same < SAME or refused > REFUSED:
        sys.exit(1)


if __name__ == "__main__":
    main(tyro.cli(Config))
