"""Samplers as step functions, the way people write them: one step of `lax.scan`, the network inside."""

import jax
import jax.numpy as jnp

import pcm_jax as pcm
from tests import problems

PARAMS = problems.mlp_params()


def oracle(step, init, xs, **options):
    """`lax.scan`'s carry, outputs and trajectory, for a step that returns a carry or (carry, y)."""

    def body(carry, x):
        found = step(carry, x)
        new, y = found if jax.tree.structure(found) != jax.tree.structure(carry) else (found, None)
        return new, (new, y)

    last, (states, ys) = jax.lax.scan(body, init, xs, **options)
    return last, ys, states


def of_table(solver, params=PARAMS, noise=None, key=None):
    """(step, init, xs) that walk a solver's table: carry x, or (x, f of the row before, of the one before that, ..)."""
    noise = problems.noise() if noise is None else noise
    z = None
    if solver.stochastic:
        z = pcm.sampling.network.draw_step_noise(key, len(solver), noise.shape, noise.dtype)

    def step(carry, inputs):
        row, z = inputs
        x, *before = carry if solver.depth else (carry,)
        prediction = problems.mlp(params, row.network_input(x), jnp.full(x.shape[0], row.time), None)
        f = row.data(x, prediction)
        new = row.step(x, f, before=before[::-1] or None, z=z, prediction=prediction)
        return (new, f, *before[:-1]) if solver.depth else new

    rows = jax.tree.map(lambda column: jnp.asarray(column, jnp.float32), solver)
    x = solver.first(noise)
    return step, (x, *[jnp.zeros_like(x)] * solver.depth) if solver.depth else x, (rows, z)


def churned(params=PARAMS, *, steps=40, gamma=0.8, scale=1.5, key=0, batch=3):
    """AlphaFold 3's sampler (supplement, algorithm 18) around a small network: noise, then a long Euler step."""
    times = karras(steps, 0.05, 40.0)
    z = jax.random.normal(jax.random.key(key), (steps, batch, 6))

    def denoise(x, sigma):
        return jnp.tanh(problems.mlp(params, x / jnp.sqrt(1 + sigma**2), jnp.full(x.shape[0], 100 * sigma), None))

    def step(x, inputs):
        now, then, noise = inputs
        hat = now * (1 + jnp.where(now > 1.0, gamma, 0.0))
        x = x + 1.003 * jnp.sqrt(jnp.maximum(hat**2 - now**2, 0.0)) * noise
        return x + scale * (then - hat) * (x - denoise(x, hat)) / hat

    first = times[0] * jax.random.normal(jax.random.key(key + 1), (batch, 6))
    return step, first, (times[:-1], times[1:], z)


def karras(steps, low, high, rho=7.0):
    """Noise levels from `high` to `low`, then 0 (arXiv 2206.00364, equation 5)."""
    ramp = jnp.linspace(0.0, 1.0, steps)
    levels = (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    return jnp.append(levels, 0.0)
