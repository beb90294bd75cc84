"""Error and bound after every round, of each method that is shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

import pcm_jax as pcm
from experiments.common import study
from experiments.pcm.study import GUESS, METHODS
from pcm_jax.pretrained import PretrainedAdapter
from pcm_jax.priors import GaussianPrior

TUNED = "PCM + secant"
TOL = 1e-2


@dataclasses.dataclass(frozen=True)
class Followed:
    """A method's states `[rounds, ...]`, and what is said of each.

    errors: RMS distance from the sequential sample, of the worst sample shown. bounds: the library's on it, also of the
    worst; None before there is one. needed: rounds until every sample was certified, None if there were too few.
    """

    states: np.ndarray
    errors: list[float]
    bounds: list[float | None]
    needed: int | None


def options(prior: GaussianPrior | None, adapter: PretrainedAdapter | None) -> dict[str, dict[str, Any]]:
    """Arguments of `sample_picard` for each method: Picard, the best without training, PCM if an adapter ships."""
    best = "Picard + secant" if prior is None else GUESS
    shown: dict[str, dict[str, Any]] = {}
    for name in ("Picard", best, *((TUNED,) if adapter is not None else ())):
        slope, tuned = METHODS[name]
        shown[name] = {"linearization": study.SLOPES[slope], "prior": prior if name == GUESS else None}
        if tuned and adapter is not None:
            shown[name] |= study.tuned(adapter, prior, slope)
    return shown


def follow(
    sample: Callable[..., pcm.SampleOutput],
    exact: np.ndarray,
    methods: Mapping[str, dict[str, Any]],
    rounds: int | None = None,
) -> dict[str, Followed]:
    """Run every method, keep as many rounds of each as the best without training takes.

    Args:
        sample: `sample_picard` of the case, which takes the options that `methods` holds.
        exact: sequential samples `[B, ...]`.
        methods: of `options`.
        rounds: keep so many instead, and run no more.
    """
    outs = {}
    for name, how in methods.items():
        more = {} if rounds is None else {"max_rounds": rounds}
        outs[name] = jax.device_get(sample(tol=TOL, return_rounds=True, stats="full", **more, **how))
    kept = rounds or int(outs[best(methods)].stats.rounds.max())
    return {name: _followed(out, exact, kept) for name, out in outs.items()}


def best(methods: Mapping[str, Any]) -> str:
    """The one without training that is not plain Picard."""
    return next(name for name in methods if name not in ("Picard", TUNED))


def _followed(out: pcm.SampleOutput, exact: np.ndarray, rounds: int) -> Followed:
    assert out.iterates is not None and out.stats.bounds is not None
    # Behind its last round a sample stays as it is.
    at = np.minimum(np.arange(rounds)[:, None], np.asarray(out.stats.rounds) - 1)
    states = np.asarray(out.iterates)[np.minimum(np.arange(rounds), len(out.iterates) - 1)]
    bounds = np.take_along_axis(np.asarray(out.stats.bounds, np.float64), at, axis=0).max(axis=1)
    squares = np.square(states.astype(np.float64) - exact).mean(axis=tuple(range(2, states.ndim)))
    return Followed(
        states=states,
        errors=np.sqrt(squares).max(axis=1).tolist(),
        bounds=[float(bound) if np.isfinite(bound) else None for bound in bounds],
        needed=int(np.max(out.stats.rounds)) if np.all(out.converged) else None,
    )


def numbers(followed: Mapping[str, Followed]) -> dict[str, Any]:
    """What the results' JSON keeps of them."""
    return {
        "tol": TOL,
        "rounds": len(next(iter(followed.values())).errors),
        "errors": {name: one.errors for name, one in followed.items()},
        "bounds": {name: one.bounds for name, one in followed.items()},
        "needed": {name: one.needed for name, one in followed.items()},
    }
