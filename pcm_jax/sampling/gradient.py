r"""Reverse-mode derivative of a converged trajectory.

The fixed point satisfies x_{i+1} = F_i(x_i, f_{i-1}), so its derivative is that of the sequential sampler at the same
states (implicit function theorem; the Jacobian I - dG/dX is block triangular, and solving with its transpose is the
adjoint recurrence

    l_i = (dF_i / dx)^T l_{i+1} + (cotangent of x_i)

run from the last step back: T vector-Jacobian products one after the other. The rounds are never unrolled and only
one step's activations are alive at a time. Where the rounds ended early (MAX_ROUNDS) this is the sequential derivative
at the states reached, an approximation as good as they are.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pcm_jax.parallel import vary_like
from pcm_jax.sampling.sequential import one_step
from pcm_jax.solvers import Solver
from pcm_jax.types import Array, Cond, ModelFn, Params, PyTree


def adjoint(
    model_fn: ModelFn,
    dtype: jnp.dtype,
    params: Params,
    solver: Solver,
    cond: Cond,
    step_noise: Array | None,
    trajectory: Array,
    cotangents: Array,
) -> tuple[PyTree, Array, PyTree, Array | None, Solver]:
    """Cotangents of (params, noise, cond, step_noise, solver) from those of the states, `[T + 1, B, ...]`.

    Integer leaves of params and cond (labels, say) get float0 zeros, as `jax.grad` expects.
    """
    structure: Any
    leaves, structure = jax.tree.flatten((params, cond))
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    smooth = tuple(bool(jnp.issubdtype(leaf.dtype, jnp.inexact)) for leaf in leaves)
    variables = [leaf for leaf, s in zip(leaves, smooth, strict=True) if s]
    fixed = [leaf for leaf, s in zip(leaves, smooth, strict=True) if not s]
    shape = (structure, smooth)
    total, noise, z_bar, table_bar = _backward(
        model_fn, dtype, shape, variables, fixed, solver, step_noise, trajectory, cotangents
    )
    params_bar, cond_bar = _join(shape, total, [zeros_like_cotangent(leaf) for leaf in fixed])
    return params_bar, noise, cond_bar, z_bar, table_bar


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _backward(
    model_fn: ModelFn,
    dtype: jnp.dtype,
    shape: tuple[Any, tuple[bool, ...]],
    variables: list[Array],
    fixed: list[Array],
    solver: Solver,
    step_noise: Array | None,
    trajectory: Array,
    cotangents: Array,
) -> tuple[list[Array], Array, Array | None, Solver]:
    def body(carry: tuple[Any, ...], row: tuple[Solver, Array, Array, Array | None]) -> Any:
        total, above, above_f, two_above = carry
        table, x, cotangent, z = row

        def step(
            variables: list[Array], table: Solver, x: Array, f_prev: Array | None, z: Array | None
        ) -> tuple[Array, Array]:
            params, cond = _join(shape, variables, fixed)
            return one_step(model_fn, dtype, params, cond, table, x, f_prev, z)

        # x' is linear in f_prev: its value matters to the derivative in b' alone, which is <l_{i+2}, f_i> of row i + 1.
        f_prev = jnp.zeros_like(x) if solver.multistep else None
        (_, f), pullback = jax.vjp(step, variables, table, x, f_prev, z)
        grads, dtable, dx, df_prev, dz = pullback((above, jnp.zeros_like(f) if above_f is None else above_f))
        # Through a pullback and not as a bare sum, so that inside somebody's shard_map it is summed over their axes.
        b_prev = None if two_above is None else jax.vjp(lambda b: b * f, table.b_prev)[1](two_above)[0]
        below = (jax.tree.map(jnp.add, total, grads), dx + cotangent, df_prev, None if two_above is None else above)
        return below, (dz, dtable, b_prev)

    last = cotangents[-1]
    nothing = vary_like(jnp.zeros_like(last), last) if solver.multistep else None
    start = (jax.tree.map(jnp.zeros_like, variables), last, nothing, nothing)
    rows = (solver, trajectory[:-1], cotangents[:-1], step_noise)
    (total, noise, _, _), (z_bar, table_bar, b_prev_bar) = lax.scan(body, start, rows, reverse=True)
    if b_prev_bar is not None:
        shifted = jnp.concatenate([jnp.zeros_like(b_prev_bar[:1]), b_prev_bar[:-1]])
        table_bar = dataclasses.replace(table_bar, b_prev=shifted.astype(table_bar.b_prev.dtype))
    return total, noise, z_bar, table_bar


def _join(shape: tuple[Any, tuple[bool, ...]], variables: list[Any], fixed: list[Any]) -> Any:
    """The (params, cond) that was taken apart."""
    structure, smooth = shape
    ours, others = iter(variables), iter(fixed)
    return structure.unflatten([next(ours) if s else next(others) for s in smooth])


def zeros_like_cotangent(leaf: Any) -> Any:
    """A zero cotangent of `leaf`: float0 for integers and keys."""
    leaf = jnp.asarray(leaf)
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.zeros_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)
