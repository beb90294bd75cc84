"""A denoiser in NNX, Equinox and Haiku inside the same loop. `pcm_jax.scan` sees a function and the arrays in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.recipes.common import Report, compare

SIZE, WIDTH = 6, 32


def nnx() -> Callable[[jax.Array], jax.Array]:
    """Flax NNX: the module is called as it is."""
    from flax import nnx as module

    rngs = module.Rngs(0)
    return module.Sequential(module.Linear(SIZE + 1, WIDTH, rngs=rngs), jnp.tanh, module.Linear(WIDTH, SIZE, rngs=rngs))


def equinox() -> Callable[[jax.Array], jax.Array]:
    """Equinox: a module of one sample, vmapped."""
    import equinox as eqx

    return jax.vmap(eqx.nn.MLP(SIZE + 1, SIZE, WIDTH, 1, jnp.tanh, key=jax.random.key(0)))


def haiku() -> Callable[[jax.Array], jax.Array]:
    """Haiku: transformed, its parameters closed over, as AlphaFold 3's are."""
    import haiku as hk

    network: Any = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([WIDTH, SIZE], activation=jnp.tanh)(x)))
    params = network.init(jax.random.key(0), jnp.ones((1, SIZE + 1)))
    return lambda x: network.apply(params, x)


FRAMEWORKS: dict[str, Callable[[], Any]] = {"Flax NNX": nnx, "Equinox": equinox, "Haiku": haiku}


def run(name: str, batch: int = 4, steps: int = 50, tol: float = 1e-2) -> Report:
    """Euler's method on the probability-flow ODE of rectified flow."""
    network = FRAMEWORKS[name]()

    def step(x: jax.Array, times: tuple[jax.Array, jax.Array]) -> jax.Array:
        now, following = times
        data = network(jnp.concatenate([x, jnp.full((batch, 1), now)], axis=1))
        return x + (following - now) * (x - data) / now

    grid = jnp.linspace(1.0, 0.02, steps + 1)
    noise = jax.random.normal(jax.random.key(1), (batch, SIZE))
    return compare(f"{name} denoiser", step, noise, (grid[:-1], grid[1:]), tol=tol)
