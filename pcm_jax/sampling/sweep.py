"""What one round does with the network's predictions: the steps of all rows, and the affine scan over them.

The parallel sampler's loop and the consistency trainer share it, so that a model is trained on the rounds that it will
be used in.
"""

from __future__ import annotations

import jax.numpy as jnp

from pcm_jax.sampling.linearization import History, Linearization, solve
from pcm_jax.solvers import Solver
from pcm_jax.types import Array


def sweep(
    table: Solver,
    linearization: Linearization,
    x: Array,
    prediction: Array,
    *,
    f_edge: Array | None = None,
    step_noise: Array | None = None,
    inside: Array | None = None,
    share: Array | None = None,
    history: History | None = None,
    first_slope: Array | None = None,
) -> tuple[Array, Array, Array]:
    """(f, steps F(x), new states y) of a round, each `[W, B, ...]`; y are the states after x's first.

    Args:
        table: the solver's rows, columns `[W, B]`.
        x: states `[W + 1, B, ...]`; the first is known.
        prediction: the network's, at the first W of them.
        f_edge: f of the row before the window, for multistep solvers.
        step_noise: z of the rows, for stochastic solvers.
        inside: `[W, B]`, False for rows past the end, whose step is the identity.
        share: lambda `[W, B]`. Rows of the fine-tuned model are not clipped: what it must say for one round to land on
            the exact state is no picture of the data, and no state computed from it is ever certified.
        history: the round before.
        first_slope: `[W, B]`, the prior's, for rows without history.
    """
    old = x[:-1]
    f = table.data(old, prediction, free=None if share is None else share > 0)
    f_prev = None if f_edge is None else jnp.concatenate([f_edge[None], f[:-1]])
    step = table.step(old, f, f_prev, step_noise)
    if inside is not None:
        step = jnp.where(inside.reshape(inside.shape + (1,) * (step.ndim - inside.ndim)), step, old)
    if share is not None and first_slope is not None:
        # What the fine-tuned model is taught are drifts: its rows add to whatever state they are reached from.
        first_slope = jnp.where(share > 0, 1.0, first_slope)
    return f, step, solve(x, step, linearization.slope(table, old, step, history, first_slope))


def same_operator(history: History | None, before: Array | None, share: Array) -> History | None:
    """History where the same blend of models evaluated the row in both rounds; `before`: lambda of the last round.

    A secant through two operators is the derivative of neither (it cost rounds wherever it was tried). Rows that have
    just come back to the base model are marked: their slope is the one that the solver knows without history.
    """
    if history is None or before is None:
        return history
    return history._replace(valid=history.valid & (before == share), returned=(before > 0) & (share == 0))
