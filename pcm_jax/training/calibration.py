r"""Which rows of which round the fine-tuned model should evaluate: lambda[k, i], measured on held-out noises.

Round by round, along the rounds that sampling itself will run: both models evaluate every row of X^k, and their drifts
F_i(x_i) - x_i are compared with the exact one. That gives the border b_k, the row at which the sum of the errors of the
base model before it and of the fine-tuned model behind it is least. Then the round is run both ways, with the
fine-tuned model behind the border and without it at all, and a few rounds of the base model after it: the fine-tuned
model keeps the round only if the error is smaller by 5 % over all of them. The first round that it does not keep ends
the table.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pcm_jax import checks
from pcm_jax.recurrence.linearization import Linearization, secant
from pcm_jax.sampling.network import call_rows
from pcm_jax.sampling.table import steps
from pcm_jax.switching import Adapter
from pcm_jax.training.rounds import Base, Trajectory, advance, begin, columns, edge
from pcm_jax.types import Array, Cond, ModelFn


@dataclasses.dataclass(frozen=True)
class Calibration:
    """table: lambda `[rounds, T]` of zeros and ones; no rounds where the fine-tuned model helps nowhere.

    base_error, tuned_error: `[rounds measured, T]`, RMS error of the drifts. error: `[rounds measured, 2, 1 + ahead]`,
    of the last state after that round and the base rounds behind it, without and with the fine-tuned model.
    evaluations: network rows that the measurement took.
    """

    table: np.ndarray
    base_error: np.ndarray
    tuned_error: np.ndarray
    error: np.ndarray
    evaluations: int

    @property
    def borders(self) -> tuple[int, ...]:
        """The first row of the fine-tuned model in each round of the table."""
        return tuple(int(np.argmax(row > 0)) for row in self.table)


def calibrate(
    model_fn: ModelFn,
    base: Base,
    adapter: Adapter,
    batch: dict[str, Any],
    *,
    rounds: int = 4,
    ahead: int = 3,
    linearization: Linearization = secant(),  # noqa: B008 - frozen
) -> Calibration:
    """Measure the table.

    Args:
        model_fn, base: the base model's function, parameters and solver.
        adapter: the fine-tuned model.
        batch: held-out noises and their exact solutions, from `solve_batch`.
        rounds: longest table.
        ahead: rounds of the base model that a round is judged by beside itself.
        linearization: the sampler's.
    """
    checks.whole("rounds", rounds)
    checks.whole("ahead", ahead, 0)
    exact = jnp.moveaxis(batch["exact"], 0, 1)
    z = None if batch["step_noise"] is None else jnp.moveaxis(batch["step_noise"], 0, 1)
    num_steps, size = len(base.solver), exact.shape[1]
    at = begin(model_fn, base, exact[0], batch["cond"], z)
    run = functools.partial(_judge, model_fn, linearization, ahead)
    table, drifts, errors, spent = [], [], [], 0
    for k in range(min(rounds, num_steps)):
        measured = np.asarray(_drift_errors(model_fn, base, adapter, at.x, exact, batch["cond"], z), np.float64)
        border = _border(measured[0], measured[1], first=k)
        share = (np.arange(num_steps) >= border).astype(np.float32)
        judged = [run(base, adapter, at, exact, batch["cond"], z, jnp.asarray(s)) for s in (0 * share, share)]
        drifts.append(measured)
        errors.append(np.stack([np.asarray(error) for _, error in judged]))
        spent += num_steps * size * (2 + 2 * (1 + ahead))
        without, kept = (np.log(np.maximum(error, _FLOOR)) for error in errors[-1])
        if border == num_steps or not np.mean(kept) < np.mean(without) - _WORTH:
            break
        table.append(share)
        at = judged[1][0]
    return Calibration(
        table=np.stack(table) if table else np.zeros((0, num_steps), np.float32),
        base_error=np.stack([pair[0] for pair in drifts]),
        tuned_error=np.stack([pair[1] for pair in drifts]),
        error=np.stack(errors),
        evaluations=spent,
    )


_FLOOR = 1e-4
"""Errors under this are round-off, and none is better than another."""


_WORTH = 0.05
"""Least gain in the mean logarithm of the error: a round that brings less is not worth training for."""


def _border(base: np.ndarray, tuned: np.ndarray, first: int) -> int:
    """argmin_b of sum(base[:b]) + sum(tuned[b:]); the rows before `first` are exact after as many rounds."""
    before = np.concatenate([[0.0], np.cumsum(base)])
    behind = np.concatenate([np.cumsum(tuned[::-1])[::-1], [0.0]])
    total = before + behind
    return first + int(np.argmin(total[first:]))


@functools.partial(jax.jit, static_argnums=0)
def _drift_errors(
    model_fn: ModelFn, base: Base, adapter: Adapter, x: Array, exact: Array, cond: Cond, z: Array | None
) -> Array:
    """RMS error of both models' drifts at x, `[2, T]`."""
    num_steps, batch = len(base.solver), x.shape[1]
    table, old = columns(base.solver, batch), x[:-1]

    def error(value: float) -> Array:
        share = jnp.full((num_steps, batch), value)
        said = call_rows(model_fn, base.params, table.network_input(old), table.time, cond, x.dtype, adapter, share)
        _, step = steps(table, old, said, edge=edge(base.solver, x), step_noise=z, share=share)
        wrong = step - old - (exact[1:] - exact[:-1])
        return jnp.sqrt(jnp.mean(wrong**2, axis=tuple(range(1, wrong.ndim))))

    return jnp.stack([error(0.0), error(1.0)])


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _judge(
    model_fn: ModelFn,
    linearization: Linearization,
    ahead: int,
    base: Base,
    adapter: Adapter,
    at: Trajectory,
    exact: Array,
    cond: Cond,
    z: Array | None,
    share: Array,
) -> tuple[Trajectory, Array]:
    """The trajectory after a round with `share`, and the RMS error then and after 1 .. `ahead` base rounds."""

    def round_of(at: Trajectory, share: Array) -> tuple[Trajectory, Array]:
        new = advance(model_fn, base, adapter, at, cond, z, share, linearization)
        return new, jnp.sqrt(jnp.mean((new.x[-1] - exact[-1]) ** 2))

    after, error = round_of(at, share)
    later = [error]
    following = after
    for _ in range(ahead):
        following, error = round_of(following, jnp.zeros_like(share))
        later.append(error)
    return after, jnp.stack(later)
