"""AlphaFold 3's sampler: 200 steps of noise and a long Euler step, random poses, one sample or many.

Supplement of doi 10.1038/s41586-024-07487-w, algorithm 18: levels c_0 > .. > c_T, gamma = .8 where c > 1, noise scale
1.003, step scale 1.5. Its steps become a scan's by two changes that leave the law of the samples as it is:

- Keys are split before the loop and come in xs. A key in the carry would have to be split T times in a row.
- The random pose is kept inside the network call, `denoise(R x + t)` turned back, and the carry stays in one frame.
  Turning the carry itself would turn every later state with it, and no guess of a trajectory would survive a step.
  Poses are independent and uniform, and so are their products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import pcm_jax as pcm
from experiments.recipes.common import Report, compare, karras
from pcm_jax.priors.gaussian import components

Denoise = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""(noisy `[B, ..]`, noise level, key of the step's pose) -> data prediction `[B, ..]`."""


def sampler(denoise: Denoise, *, gamma: float = 0.8, noise_scale: float = 1.003, step_scale: float = 1.5) -> Any:
    """One step, `(x, (c, c', key)) -> x'`."""

    def step(x: jax.Array, inputs: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        level, following, key = inputs
        noise, pose = jax.random.split(key)
        raised = level * (1 + jnp.where(level > 1.0, gamma, 0.0))
        scale = noise_scale * jnp.sqrt(jnp.maximum(raised**2 - level**2, 0.0))
        x = x + scale * jax.random.normal(noise, x.shape, x.dtype)
        return x + step_scale * (following - raised) * (x - denoise(x, raised, pose)) / raised

    return step


def in_a_random_pose(denoise: Callable[[jax.Array, jax.Array], jax.Array]) -> Denoise:
    """Points `[B, N, 3]`: centred, turned and moved before the network, and back after it."""

    def posed(x: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
        turn, move = jax.random.split(key)
        rotation = jnp.linalg.qr(jax.random.normal(turn, (len(x), 3, 3)))[0]
        shift = jnp.mean(x, axis=1, keepdims=True) - jax.random.normal(move, (len(x), 1, 3))
        seen = jnp.einsum("bnd,bde->bne", x - shift, rotation)
        return jnp.einsum("bne,bde->bnd", denoise(seen, level), rotation) + shift

    return posed


def digits(batch: int = 32, steps: int = 200, tol: float = 1e-2) -> Report:
    """The shipped digits network in the place of the diffusion head, with a guess: its prior instead of the network."""
    model = pcm.pretrained.load("digits")
    labels = jnp.arange(batch) % 10
    assert isinstance(model.schedule, pcm.schedules.VP) and model.prior is not None
    ratio = jnp.sqrt(1 / jnp.asarray(model.schedule.alphas_cumprod, jnp.float32) - 1)
    prior = components(model.prior, labels, batch, jnp.dtype(jnp.float32))

    def network(x: jax.Array, level: jax.Array, pose: jax.Array) -> jax.Array:
        time = jnp.full(batch, jnp.interp(level, ratio, jnp.arange(len(ratio), dtype=jnp.float32)))
        noise = model.model_fn(model.params, x / jnp.sqrt(1 + level**2), time, labels)
        return jnp.clip(x - level * noise, -1, 1)

    def instead(x: jax.Array, level: jax.Array, pose: jax.Array) -> jax.Array:
        mean = prior.posterior_mean(x.reshape(batch, -1), jnp.ones((1, 1)), level.reshape(1, 1))
        return jnp.clip(mean.reshape(x.shape), -1, 1)

    levels = karras(steps, 0.03, 60.0)
    first = levels[0] * jax.random.normal(jax.random.key(4), (batch, *model.sample_shape))
    xs = (levels[:-1], levels[1:], jax.random.split(jax.random.key(3), steps))
    return compare("AlphaFold 3's sampler, digits", sampler(network), first, xs, tol=tol, guess=sampler(instead))


def points(batch: int = 4, atoms: int = 12, steps: int = 100, tol: float = 1e-2) -> Report:
    """Clouds of atoms near one of three shapes, in random poses; the network is nearly, not quite, equivariant."""
    shapes = jax.random.normal(jax.random.key(0), (3, atoms, 3))
    shapes -= jnp.mean(shapes, axis=1, keepdims=True)
    bias = 0.02 * jax.random.normal(jax.random.key(1), (3, 3))

    def network(x: jax.Array, level: jax.Array) -> jax.Array:
        centre = jnp.mean(x, axis=1, keepdims=True)
        # Each shape, turned onto the cloud (Kabsch), weighed by how well it lies there.
        u, _, v = jnp.linalg.svd(jnp.einsum("knd,bne->bkde", shapes, x - centre))
        turned = jnp.einsum("knd,bkde->bkne", shapes, u @ v)
        far = jnp.sum((turned - (x - centre)[:, None]) ** 2, axis=(2, 3))
        weight = jax.nn.softmax(-far / (2 * (level**2 + 0.3**2)), axis=1)
        near = jnp.einsum("bk,bknd->bnd", weight, turned)
        gain = 0.3**2 / (0.3**2 + level**2)
        return centre + near + gain * (x - centre - near) + jnp.tanh((x - centre) / (1 + level) @ bias)

    levels = karras(steps, 0.02, 20.0)
    first = levels[0] * jax.random.normal(jax.random.key(5), (batch, atoms, 3))
    xs = (levels[:-1], levels[1:], jax.random.split(jax.random.key(6), steps))
    step = sampler(in_a_random_pose(network))
    return compare("AlphaFold 3's sampler, atoms in random poses", step, first, xs, tol=tol)
