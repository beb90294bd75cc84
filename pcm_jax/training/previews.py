"""Which row's data prediction is the best sample after each round: `preview=` of `sample_picard`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pcm_jax import checks
from pcm_jax.recurrence.linearization import Linearization, secant
from pcm_jax.sampling.preview import MeasuredRows
from pcm_jax.switching import Adapter
from pcm_jax.training.rounds import Base, Trajectory, begin, evaluate_and_advance
from pcm_jax.types import Array, ModelFn

Judge = Callable[[np.ndarray, np.ndarray], float]
"""(shown `[N, ...]`, exact `[N, ...]`) -> how bad it is to show these instead of those."""


@dataclasses.dataclass(frozen=True)
class Preview:
    """rows: what `sample_picard(preview=..)` takes; T, the last state, where that is best, and from the last measured
    round on. candidates: the rows that were tried, T the last one. error: `[rounds, candidates]`, of every candidate's
    data prediction in that round, and of the last state after it. evaluations: network rows that the measurement took.
    """  # noqa: D205

    rows: MeasuredRows
    candidates: tuple[int, ...]
    error: np.ndarray
    evaluations: int


def rms(shown: np.ndarray, exact: np.ndarray) -> float:
    """Root mean square of the difference: a row that is near the exact sample is good, be it blurred."""
    return float(np.sqrt(np.mean(np.square(shown - exact, dtype=np.float64))))


def measure_preview(
    model_fn: ModelFn,
    base: Base,
    batch: dict[str, Any],
    *,
    adapter: Adapter | None = None,
    table: np.ndarray | None = None,
    rounds: int = 4,
    linearization: Linearization = secant(),  # noqa: B008 - frozen
    judge: Judge = rms,
    candidates: Sequence[int] | None = None,
) -> Preview:
    """Run `rounds` rounds on held-out noises and compare.

    Args:
        model_fn, base: the base model's function, parameters and solver.
        batch: held-out noises and their exact solutions, from `solve_batch`.
        adapter, table: a fine-tuned model and its lambda `[rounds of the table, T]`; None for plain Picard.
        rounds: to measure.
        linearization: the sampler's.
        judge: what is least where a row is best; images may want one that looks at sharpness too.
        candidates: rows 0 .. T - 1 to try, by default all; the last state is always tried.

    Raises:
        ValueError: a candidate that is no row.
    """
    checks.whole("rounds", rounds)
    num_steps = len(base.solver)
    if candidates is not None and (isinstance(candidates, str) or np.ndim(candidates) != 1):
        raise ValueError(f"candidates must be rows 0..{num_steps - 1}, got {checks.shown(candidates)}")
    tried = np.arange(num_steps) if candidates is None else np.asarray(candidates)
    for row in tried.tolist():
        checks.whole("candidates", row, 0, num_steps - 1, "rows of the solver")
    tried = tried.astype(int)
    shares = np.zeros((rounds, num_steps), np.float32)
    if table is not None:
        shares[: len(table)] = table[:rounds]
    exact, errors = np.asarray(batch["exact"][:, -1]), []
    z = None if batch["step_noise"] is None else jnp.moveaxis(batch["step_noise"], 0, 1)
    at = begin(model_fn, base, batch["exact"][:, 0], batch["cond"], z)
    for share in shares:
        at, shown = _round(model_fn, linearization, base, adapter, at, batch, jnp.asarray(share), jnp.asarray(tried))
        errors.append([judge(np.asarray(each), exact) for each in shown])
    error, all_tried = np.asarray(errors, np.float64), (*(int(row) for row in tried), num_steps)
    rows = tuple(all_tried[best] for best in np.argmin(error, axis=1))
    shown = MeasuredRows((*rows, num_steps), base.solver.name, num_steps)
    return Preview(shown, all_tried, error, rounds * num_steps * exact.shape[0])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _round(
    model_fn: ModelFn,
    linearization: Linearization,
    base: Base,
    adapter: Adapter | None,
    at: Trajectory,
    batch: dict[str, Any],
    share: Array,
    tried: Array,
) -> tuple[Trajectory, Array]:
    """The next trajectory, and what could be shown of it `[candidates, B, ...]`."""
    z = None if batch["step_noise"] is None else jnp.moveaxis(batch["step_noise"], 0, 1)
    new, data = evaluate_and_advance(model_fn, base, adapter, at, batch["cond"], z, share, linearization)
    return new, jnp.concatenate([data[tried], new.x[-1:]])
