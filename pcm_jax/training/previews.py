"""Which row's data prediction comes closest to the exact sample after each round: `preview=` of `sample_picard`."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pcm_jax.sampling.linearization import Linearization, secant
from pcm_jax.switching import Adapter
from pcm_jax.training.rounds import Base, Trajectory, begin, evaluate_and_advance
from pcm_jax.types import Array, ModelFn


@dataclasses.dataclass(frozen=True)
class Preview:
    """rows: what `sample_picard(preview=..)` takes; T, the last state, where that is best, and from the last measured
    round on. error: RMS `[rounds, T + 1]` of every row's data prediction in that round, and of the last state after it.
    evaluations: network rows that the measurement took.
    """  # noqa: D205

    rows: tuple[int, ...]
    error: np.ndarray
    evaluations: int


def measure_preview(
    model_fn: ModelFn,
    base: Base,
    batch: dict[str, Any],
    *,
    adapter: Adapter | None = None,
    table: np.ndarray | None = None,
    rounds: int = 4,
    linearization: Linearization = secant(),  # noqa: B008 - frozen
) -> Preview:
    """Run `rounds` rounds on held-out noises and compare.

    Args:
        model_fn, base: the base model's function, parameters and solver.
        batch: held-out noises and their exact solutions, from `solve_batch`.
        adapter, table: a fine-tuned model and its lambda `[rounds of the table, T]`; None for plain Picard.
        rounds: to measure.
        linearization: the sampler's.
    """
    num_steps = len(base.solver)
    shares = np.zeros((rounds, num_steps), np.float32)
    if table is not None:
        shares[: len(table)] = table[:rounds]
    error = np.asarray(_errors(model_fn, linearization, base, adapter, batch, jnp.asarray(shares)), np.float64)
    rows = tuple(int(row) for row in np.argmin(error, axis=1))
    return Preview((*rows, num_steps), error, rounds * num_steps * batch["exact"].shape[0])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _errors(
    model_fn: ModelFn,
    linearization: Linearization,
    base: Base,
    adapter: Adapter | None,
    batch: dict[str, Any],
    shares: Array,
) -> Array:
    exact = jnp.moveaxis(batch["exact"], 0, 1)
    z = None if batch["step_noise"] is None else jnp.moveaxis(batch["step_noise"], 0, 1)

    def body(at: Trajectory, share: Array) -> tuple[Trajectory, Array]:
        new, data = evaluate_and_advance(model_fn, base, adapter, at, batch["cond"], z, share, linearization)
        wrong = jnp.concatenate([data, new.x[-1:]]) - exact[-1:]
        return new, jnp.sqrt(jnp.mean(wrong**2, axis=tuple(range(1, wrong.ndim))))

    return lax.scan(body, begin(exact[0], len(base.solver)), shares)[1]
