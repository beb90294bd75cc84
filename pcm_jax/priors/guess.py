"""The trajectory that the sampler passes where the network is the prior's posterior mean: no network call."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from pcm_jax.parallel import vary_like
from pcm_jax.priors.gaussian import Component, GaussianPrior, components, per_sample
from pcm_jax.solvers import Solver
from pcm_jax.types import Array, ArrayLike, Cond


@jax.jit
def trajectory(
    prior: GaussianPrior,
    solver: Solver,
    noise: ArrayLike,
    step_noise: ArrayLike | None = None,
    cond: Cond = None,
    *,
    guidance: float | None = None,
) -> Array:
    r"""A first guess of the trajectory, for `sample_picard(init=..)`: the solver's own rows, clip and noise included.

        x_{i+1} = solver.hold(x_i, clip(E[x_0 | x_i]), unclipped=E[x_0 | x_i])

    Args:
        prior: of the model's samples.
        noise: the sampler's first state `[B, ...]`, `solver.first` of its noise.
        step_noise: `[T, B, ...]` of a stochastic solver, the one that the sampler gets.
        cond: the network's: labels or observations, as the prior was fitted with, or None.
        guidance: scale s of classifier-free guidance, u + s (c - u) with u the pooled component.

    Returns:
        `[T + 1, B, ...]`; what does not fit is found by `check`.
    """
    noise, z, given, without = _prepare(prior, solver, noise, step_noise, cond, guidance)
    batch, shape = noise.shape[0], noise.shape

    def predict(x: Array, row: Solver) -> tuple[Array, Array]:
        """Inside the clip, and before it."""
        alpha, sigma = (jnp.asarray(column, x.dtype).reshape(1, 1) for column in (row.alpha, row.sigma))
        data = given.posterior_mean(x, alpha, sigma)
        if without is not None and guidance is not None:
            null = without.posterior_mean(x, alpha, sigma)
            data = null + guidance * (data - null)
        # A clip that is a function takes one sample after the other: a row of the table for each.
        rows = jax.tree.map(lambda column: jnp.broadcast_to(column, (batch,)), row)
        return rows.clipped(data.reshape(shape)).reshape(x.shape), data

    def body(carry: tuple[Array, Array | None], inputs: tuple[Solver, Array | None]) -> Any:
        (x, before), (row, z) = carry, inputs
        data, unclipped = predict(x, row)
        x, f = row.hold(x, data, unclipped=unclipped, before=before, z=z)
        before = None if before is None else jnp.concatenate([before[1:], f[None]])
        return (x, before), x

    first = noise.reshape(batch, -1)
    before = jnp.zeros((solver.depth, *first.shape), first.dtype) if solver.multistep else None
    carry = vary_like((first, before), (prior, first, cond, z, solver))
    _, states = lax.scan(body, carry, (solver, z))
    return jnp.concatenate([first[None], states]).reshape(-1, *shape)


@jax.jit
def parallel_trajectory(
    prior: GaussianPrior,
    solver: Solver,
    noise: ArrayLike,
    step_noise: ArrayLike | None = None,
    cond: Cond = None,
) -> Array:
    r"""`trajectory` in O(log T) sequential operations, for a one-step solver and without its clip.

    The map is affine, and diagonal in the prior's basis: along column r, and in all other directions,

        y' = (h + g gain_r) y + g (1 - alpha gain_r) mu_r + c z_r,

    two associative scans. Arguments and result as for `trajectory`.

    Raises:
        ValueError: a multistep solver.
    """
    if solver.multistep:
        raise ValueError(f"{solver.name} is a multistep solver, whose rows do not commute; call trajectory instead")
    noise, z, given, _ = _prepare(prior, solver, noise, step_noise, cond, None)
    columns = (solver.alpha, solver.sigma, solver.held_data, solver.data_gain, solver.c)
    alpha, sigma, h, g, c = (jnp.asarray(column, noise.dtype).reshape(-1, 1, 1) for column in columns)
    first = noise.reshape(1, noise.shape[0], -1)
    # The inputs by row: the noise is the first one, each step adds its own.
    added = jnp.broadcast_to(jnp.zeros_like(first), (len(solver), *first.shape[1:])) if z is None else c * z

    def split(x: Array) -> tuple[Array, Array]:
        inside = given.project(x)
        return inside, x - given.expand(inside)

    states = []
    for gains, start, drive, mean in zip(
        given.gains(alpha, sigma), split(first), split(added), split(given.mean[None]), strict=True
    ):
        slope, offset = h + g * gains, g * (1 - alpha * gains) * mean + drive
        one = jnp.ones((1, *slope.shape[1:]), slope.dtype)
        pair = (jnp.concatenate([one, slope]), jnp.concatenate([start, offset]))
        states.append(lax.associative_scan(_compose, pair)[1])
    inside, outside = states
    return (given.expand(inside) + outside).reshape(-1, *noise.shape)


def _compose(first: tuple[Array, Array], then: tuple[Array, Array]) -> tuple[Array, Array]:
    """Composition of two affine maps y -> a y + b."""
    return then[0] * first[0], then[0] * first[1] + then[1]


def _prepare(
    prior: GaussianPrior,
    solver: Solver,
    noise: ArrayLike,
    step_noise: ArrayLike | None,
    cond: Cond,
    guidance: float | None,
) -> tuple[Array, Array | None, Component, Component | None]:
    noise = jnp.asarray(noise)
    noise = noise.astype(jnp.promote_types(noise.dtype, jnp.float32))
    batch = noise.shape[0]
    cond = per_sample(cond, batch)
    z = None
    if solver.stochastic and step_noise is not None:
        z = jnp.asarray(step_noise, noise.dtype).reshape(len(solver), batch, -1)
    given = components(prior, cond, batch, noise.dtype)
    guided = guidance is not None and cond is not None and prior.kind != "pooled"
    return noise, z, given, components(prior, None, batch, noise.dtype) if guided else None
