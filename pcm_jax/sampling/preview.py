"""The sample as it stands while the loop still runs."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pcm_jax.sampling.window import take_rows
from pcm_jax.solvers import Solver
from pcm_jax.types import Array


def last_state(x: Array, front: Array, num_steps: int) -> Array:
    """Of the trajectory, or where the window `x` `[W + 1, B, ...]` never came that far, the last one in it."""
    return take_rows(x, jnp.minimum(num_steps - front, x.shape[0] - 1)[None])[0]


def data_prediction(table: Solver, x: Array, f: Array, front: Array, row: Array, best: Array) -> Array:
    """The data prediction of `row`, or of the window's nearest one; `best` where it is not finite.

    table: the solver's rows, columns `[W, B]`. x, f: the round's states `[W + 1, B, ...]` and predictions.
    """
    place = jnp.clip(row - front, 0, f.shape[0] - 1)[None]
    there = jax.tree.map(lambda column: take_rows(column, place), table)
    data = there.clipped(there.data_prediction(take_rows(x, place), take_rows(f, place)))[0]
    finite = jnp.all(jnp.isfinite(data), axis=tuple(range(1, data.ndim)), keepdims=True)
    return jnp.where(finite, data, best)
