"""A solver's table with a model as a recurrence, and what a round does with the model's predictions.

The consistency trainer shares `steps`, so that a model is trained on the rounds that it will be used in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from pcm_jax.parallel import WindowAxis
from pcm_jax.recurrence import Evaluation, Place, Window, take_rows
from pcm_jax.solvers import Solver
from pcm_jax.types import Array

Predict = Callable[[Array, Array, Array | None], Array]
"""(x `[W, B, ...]`, network time `[W, B]`, lambda `[W, B]` or None) -> prediction `[W, B, ...]`."""


@dataclasses.dataclass(frozen=True)
class TableSteps:
    """The recurrence of a table's rows; f is the memory. step_noise: `[T, B, ...]`.

    Where the window's devices hold their own rows, step_noise is a device's part of it; and so is solver of a
    window that stays where it is.
    """

    solver: Solver
    window: Window
    predict: Predict
    step_noise: Array | None
    recurrent: None = None

    @property
    def num_steps(self) -> int:
        return self.window.num_steps

    @property
    def depth(self) -> int:
        return self.solver.depth

    def edge(self, first: Array) -> jax.ShapeDtypeStruct | None:
        return jax.ShapeDtypeStruct((self.depth, *first.shape), first.dtype) if self.depth else None

    def emits(self, first: Array) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.num_steps, *first.shape), first.dtype)

    def rows(self, place: Place) -> Solver:
        return self.window.columns(self.solver, place)

    def evaluate(self, rows: Solver, x: Array, place: Place, share: Array | None, edge: Array | None) -> Evaluation:
        time = jnp.broadcast_to(rows.time, x.shape[:2])
        prediction = self.predict(rows.network_input(x), time, share)
        z = None if self.step_noise is None else self.window.part(self.step_noise, place)
        memory, step = steps(rows, x, prediction, edge=edge, step_noise=z, share=share, axis=place.axis)
        return Evaluation(step, memory, memory[self.depth :])

    def preview(self, rows: Solver, x: Array, memory: Array | None, at: Array, best: Array) -> Array:
        """The data prediction of that row; `best` where it is not finite."""
        assert memory is not None
        rows = jax.tree.map(lambda column: jnp.broadcast_to(column, (*x.shape[:2], *column.shape[2:])), rows)
        there = jax.tree.map(lambda column: take_rows(column, at[None]), rows)
        data = there.clipped(there.data_prediction(take_rows(x, at[None]), take_rows(memory, self.depth + at[None])))[0]
        finite = jnp.all(jnp.isfinite(data), axis=tuple(range(1, data.ndim)), keepdims=True)
        return jnp.where(finite, data, best)


def steps(
    table: Solver,
    x: Array,
    prediction: Array,
    *,
    edge: Array | None = None,
    step_noise: Array | None = None,
    share: Array | None = None,
    axis: WindowAxis = WindowAxis(),  # noqa: B008 - frozen
) -> tuple[Array, Array]:
    """f of the table's rows after that of the k rows before them, `[k + W, B, ...]`, and F(x) `[W, B, ...]`.

    Args:
        table: the solver's rows, columns `[W, B]` or `[W, 1]`.
        x: states `[W, B, ...]`.
        prediction: the network's, at these.
        edge: f of the rows before the window, `[k, B, ...]`, oldest first, for multistep solvers.
        step_noise: z of the rows, for stochastic solvers.
        share: lambda `[W, B]`. Rows of the fine-tuned model are not clipped: what it must say for one round to land on
            the exact state is no picture of the data, and no state computed from it is ever certified.
        axis: whose devices hold the rows.
    """
    f = table.data(x, prediction, free=None if share is None else share > 0)
    memory, before = f, None
    if edge is not None:
        memory = axis.behind(f, edge)
        before = axis.earlier(memory, edge)
    return memory, table.step(x, f, before=before, z=step_noise, prediction=prediction)
