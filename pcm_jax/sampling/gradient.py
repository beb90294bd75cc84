r"""Reverse-mode derivative of a converged trajectory.

The fixed point satisfies x_{i+1} = F_i(x_i, f_{i-1}), so its derivative is that of the sequential sampler at the same
states (implicit function theorem; the Jacobian I - dG/dX is block triangular, and solving with its transpose is the
adjoint recurrence

    l_i = (dF_i / dx)^T l_{i+1} + (cotangent of x_i)

run from the last step back). The rounds are never unrolled and only one step's activations are alive at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

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
) -> tuple[PyTree, Array, PyTree, Array | None]:
    """Cotangents of (params, noise, cond, step_noise) from those of the states, `[T + 1, B, ...]`.

    Integer leaves of params and cond (labels, say) get symbolic zeros, as `jax.grad` expects.
    """
    variables, rebuild = _inexact((params, cond))

    def body(carry: tuple[Any, Array, Array | None], row: tuple[Solver, Array, Array, Array | None]) -> Any:
        total, above, above_f = carry
        table, x, cotangent, z = row

        def step(variables: PyTree, x: Array, f_prev: Array | None, z: Array | None) -> tuple[Array, Array]:
            params, cond = rebuild(variables)
            return one_step(model_fn, dtype, params, cond, table, x, f_prev, z)

        # x' is linear in f_prev, so the derivative does not depend on its value.
        f_prev = jnp.zeros_like(x) if solver.multistep else None
        (_, f), pullback = jax.vjp(step, variables, x, f_prev, z)
        grads, dx, df_prev, dz = pullback((above, jnp.zeros_like(f) if above_f is None else above_f))
        return (jax.tree.map(jnp.add, total, grads), dx + cotangent, df_prev), dz

    zero = jax.tree.map(jnp.zeros_like, variables)
    start = (zero, cotangents[-1], jnp.zeros_like(cotangents[-1]) if solver.multistep else None)
    rows = (solver, trajectory[:-1], cotangents[:-1], step_noise)
    (total, noise, _), step_noise_bar = lax.scan(body, start, rows, reverse=True)
    params_bar, cond_bar = rebuild(total, cotangent=True)
    return params_bar, noise, cond_bar, step_noise_bar


def _inexact(tree: PyTree) -> tuple[list[Array], Callable[..., PyTree]]:
    """The differentiable leaves of `tree`, and a function that puts them back."""
    structure: Any
    leaves, structure = jax.tree.flatten(tree)
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    smooth = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves]

    def rebuild(values: list[Array], cotangent: bool = False) -> PyTree:
        supply = iter(values)
        fixed = [zeros_like_cotangent(leaf) if cotangent else leaf for leaf in leaves]
        return structure.unflatten([next(supply) if s else f for s, f in zip(smooth, fixed, strict=True)])

    return [leaf for leaf, s in zip(leaves, smooth, strict=True) if s], rebuild


def zeros_like_cotangent(leaf: Any) -> Any:
    """A zero cotangent of `leaf`: float0 for integers and keys."""
    leaf = jnp.asarray(leaf)
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.zeros_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)
