"""The run behind the site's figure of rounds: one digit, every state after every round.

    python -m experiments.site rounds

DDIM-50 on the shipped digits model. After each round of each method: the RMS error of all states against the sequential
trajectory, how many states are accepted, the bound on the sample's error, and the sample as it then stands.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

import pcm_jax as pcm
from experiments.common import study
from experiments.common.figures import RESULTS, command_line, write_result
from pcm_jax.types import Array

METHODS = ("Picard", "secant", "secant + prior", "PCM + secant")


@dataclasses.dataclass(frozen=True)
class Rounds:
    """Write rounds.json. methods: which to run. label: of the digit. seed: of the noise. tol: of the certificate."""

    methods: tuple[str, ...] = METHODS
    label: int = 3
    seed: int = 4
    tol: float = 1e-2


def run_rounds(config: Rounds, results: Any = RESULTS) -> dict[str, Any]:
    """Every method on the same noise."""
    model = pcm.pretrained.load("digits")
    case = study.problem(model, study.solvers(model)["DDIM-50"], batch=1, seed=config.seed)
    case = dataclasses.replace(case, labels=jnp.asarray([config.label]))
    exact = pcm.sample_sequential(model.model_fn, model.params, case.noise, **case.arguments, return_trajectory=True)
    assert exact.trajectory is not None
    adapter = study.adapter_for(model, "DDIM-50")
    assert adapter is not None
    options: dict[str, dict[str, Any]] = {
        "Picard": {"linearization": pcm.linearization.identity()},
        "secant": {},
        "secant + prior": {"prior": model.prior},
        "PCM + secant": study.tuned(adapter, model.prior),
    }
    payload = {
        "steps": len(case.solver),
        "shape": model.sample_shape[:2],
        "exact": _grey(exact.sample),
        "methods": {name: _method(case, exact.trajectory, config.tol, options[name]) for name in config.methods},
    }
    command = command_line("experiments.site rounds", config)
    write_result("rounds", payload, config=config, seed=config.seed, command=command, results=results)
    return payload


def _method(case: study.Problem, exact: Array, tol: float, options: dict[str, Any]) -> dict[str, Any]:
    """One run in full, then the same run stopped after 1, 2, .. rounds for its states."""
    whole = case.picard(tol=tol, stats="full", **options)
    count = int(whole.stats.rounds[0])
    assert whole.stats.bounds is not None and whole.stats.accepted is not None
    bounds = [float(bound) if np.isfinite(bound) else None for bound in whole.stats.bounds[:count, 0]]
    rounds = []
    for k in range(1, count + 1):
        out = case.picard(tol=tol, return_trajectory=True, max_rounds=k, **options)
        assert out.trajectory is not None
        apart = jnp.sqrt(jnp.mean((out.trajectory - exact)[:, 0] ** 2, axis=(1, 2, 3)))
        rounds.append(
            {
                "error": [float(f"{error:.2e}") for error in apart],
                "accepted": int(whole.stats.accepted[k - 1, 0]),
                "bound": bounds[k - 1],
                "sample": _grey(out.sample),
            }
        )
    return {"result": pcm.ResultCode(int(whole.result[0])).name, "rounds": rounds}


def _grey(sample: Array) -> list[int]:
    """Of a digit in [-1, 1], 0 is the paper and 255 the ink."""
    level = np.clip((np.asarray(sample[0, ..., 0]) + 1) * 127.5, 0, 255)
    return [int(value) for value in level.round().ravel()]
