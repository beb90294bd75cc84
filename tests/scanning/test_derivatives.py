"""Derivatives of `pcm.scan` are `lax.scan`'s: of init, xs and what the step closes over; both modes, twice."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

import pcm_jax as pcm
from tests import problems
from tests.scanning import steps


def loss(run, params, init, times):
    def step(carry, inputs):
        x, old = carry
        now, then = inputs
        data = problems.mlp(params, x, jnp.full(x.shape[0], 500 * now), None)
        new = x + (then - now) * (data - x) + 0.05 * old
        return (new, data), jnp.sum(new**2, axis=1)

    init = (init, jnp.zeros_like(init))
    carry, ys = run(step, init, (times[:-1], times[1:]))
    return jnp.sum(jnp.sin(carry[0])) + jnp.mean(ys) + jnp.sum(carry[1] ** 2)


def sequential(step, init, xs):
    return jax.lax.scan(step, init, xs)


def parallel(step, init, xs, **options):
    out = pcm.scan(step, init, xs, batch_axis=0, tol=0.0, **options)
    return out.carry, out.ys


def point():
    with jax.enable_x64(True):
        wide = functools.partial(jax.tree.map, lambda leaf: leaf.astype(jnp.float64))
        return wide(problems.mlp_params()), wide(problems.noise()), jnp.linspace(0.0, 0.9, 13)


def test_gradients_of_everything():
    with jax.enable_x64(True):
        args = point()
        true = jax.grad(functools.partial(loss, sequential), argnums=(0, 1, 2))(*args)
        for run in (parallel, functools.partial(parallel, window=5)):
            ours = jax.grad(functools.partial(loss, run), argnums=(0, 1, 2))(*args)
            chex.assert_trees_all_close(ours, true, rtol=1e-6, atol=1e-8)
        one = jax.jit(jax.grad(functools.partial(loss, parallel), argnums=1))(*args)
        np.testing.assert_allclose(one, true[1], rtol=1e-6, atol=1e-8)


def test_forward_mode_and_second_derivatives():
    with jax.enable_x64(True):
        args = point()
        direction = jax.tree.map(jnp.cos, args)

        def measured(run):
            whole = functools.partial(loss, run)
            gradient = jax.grad(whole, argnums=(0, 1, 2))
            return jax.jvp(whole, args, direction)[1], jax.jvp(gradient, args, direction)[1]

        chex.assert_trees_all_close(measured(parallel), measured(sequential), rtol=1e-6, atol=1e-7)


def test_gradients_with_labels_keys_and_one_sample():
    """Integer and key leaves have no derivative and do not stand in the way."""
    keys, labels = jax.random.split(jax.random.key(0), 9), jnp.arange(9)

    def value(run, scale, init):
        def step(x, inputs):
            key, label = inputs
            noise = jax.random.normal(key, x.shape)
            return x + 0.1 * jnp.tanh(scale * x + label) + 0.01 * noise, label

        return jnp.sum(run(step, init, (keys, labels))[0] ** 2)

    def ours(step, init, xs):
        out = pcm.scan(step, init, xs, tol=0.0)
        return out.carry, out.ys

    args = (jnp.float32(1.3), problems.noise()[0])
    true = jax.grad(functools.partial(value, sequential), argnums=(0, 1))(*args)
    chex.assert_trees_all_close(jax.grad(functools.partial(value, ours), argnums=(0, 1))(*args), true, rtol=1e-4)


def test_gradients_inside_vmap_and_of_alphafold_3s_sampler():
    def end(run, params, scale):
        step, init, xs = steps.churned(params)
        return jnp.sum(run(step, scale * init, xs)[0] ** 2)

    def scanned(step, init, xs):
        return jax.lax.scan(lambda c, x: (step(c, x), None), init, xs)

    scales = jnp.array([1.0, 0.5])
    grad = jax.vmap(jax.grad(functools.partial(end, parallel)), in_axes=(None, 0))(steps.PARAMS, scales)
    true = jax.vmap(jax.grad(functools.partial(end, scanned)), in_axes=(None, 0))(steps.PARAMS, scales)
    size = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(true))
    chex.assert_trees_all_close(grad, true, rtol=1e-3, atol=1e-4 * size)
