"""How a step of the solver answers to its state, as the prior says: slopes where the sampler has no history yet."""

from __future__ import annotations

import jax.numpy as jnp

from pcm_jax.priors.gaussian import GaussianPrior, component_index, dimensions, gain
from pcm_jax.solvers import Solver
from pcm_jax.types import Array, Cond


def slope(prior: GaussianPrior, solver: Solver, cond: Cond = None) -> Array:
    r"""The mean over all directions of d x_{i+1} / d x_i, the trace of the Jacobian by D; without the clip.

        A_i = h_i + g_i mean(alpha l / (alpha^2 l + sigma^2)),   l: the D variances

    h = solver.held_data, g = solver.data_gain. A posterior mean is the same map for every x, so the
    slope depends on the row and the component alone.

    Returns:
        `[T, B]`, B from cond or of a prior of kind "sample"; `[T]` without cond or for a prior of kind "pooled".
    """
    dims, rank = dimensions(prior.sample_shape), prior.basis.shape[-1]
    dtype = jnp.result_type(jnp.asarray(prior.mean).dtype, jnp.float32)
    columns = (solver.alpha, solver.sigma, solver.held_data, solver.data_gain)
    alpha, sigma, h, g = (jnp.asarray(column, dtype)[:, None] for column in columns)
    variances, remainder = jnp.asarray(prior.variances, dtype), jnp.asarray(prior.remainder, dtype)
    within = jnp.sum(gain(variances[None], alpha[:, :, None], sigma[:, :, None]), axis=-1)
    table = h + g * (within + (dims - rank) * gain(remainder[None], alpha, sigma)) / dims
    if prior.kind == "sample":
        return table
    if cond is None or prior.kind == "pooled":
        return table[:, -1]
    return table[:, component_index(prior, cond, len(cond))]
