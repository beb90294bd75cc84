"""What every recipe does with its loop: run it as it was, run it in parallel rounds, compare."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pcm_jax as pcm

WAS, IS = "jax.lax.scan(step, x, xs)", "pcm_jax.scan(step, x, xs, batch_axis=0)"


@dataclasses.dataclass(frozen=True)
class Report:
    """One recipe's loop. rounds: mean and most of the batch; bound, error: the largest, of certified samples.

    was, now: the line that changed.
    """

    name: str
    steps: int
    rounds: float
    most_rounds: int
    tol: float
    bound: float
    error: float
    converged: float
    was: str = WAS
    now: str = IS


def sequential(step: Callable[[Any, Any], Any], init: Any, xs: Any) -> Any:
    """The loop as it was."""
    return jax.jit(lambda init, xs: jax.lax.scan(lambda carry, x: (step(carry, x), None), init, xs)[0])(init, xs)


def compare(
    name: str, step: Callable[[Any, Any], Any], init: Any, xs: Any, *, tol: float = 1e-2, **options: Any
) -> Report:
    """Both loops on the same noises; the error is of the carry's first leaf, RMS of each sample."""
    exact = jax.tree.leaves(sequential(step, init, xs))[0]
    out = pcm.scan(step, init, xs, batch_axis=0, tol=tol, **options)
    ours = jax.tree.leaves(out.carry)[0]
    error = jnp.sqrt(jnp.mean((ours - exact) ** 2, axis=tuple(range(1, ours.ndim))))
    certified = np.asarray(out.converged)
    return Report(
        name=name,
        steps=len(jax.tree.leaves(xs)[0]),
        rounds=float(jnp.mean(out.stats.rounds)),
        most_rounds=int(jnp.max(out.stats.rounds)),
        tol=tol,
        bound=float(np.max(np.asarray(out.error_bound)[certified], initial=0.0)),
        error=float(np.max(np.asarray(error)[certified], initial=0.0)),
        converged=float(np.mean(certified)),
        now=IS if not options else f"{IS[:-1]}, {', '.join(f'{key}={key}' for key in options)})",
    )


def karras(steps: int, low: float, high: float, rho: float = 7.0) -> jax.Array:
    """`[steps + 1]` noise levels from `high` to `low`, then 0 (arXiv 2206.00364, equation 5)."""
    ramp = np.arange(steps) / max(steps - 1, 1)
    levels = (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    return jnp.asarray(np.append(levels, 0.0), jnp.float32)
