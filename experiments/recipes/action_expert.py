"""A pi0-style action expert: flow matching over an action chunk that attends to a prefix's keys and values.

The prefix (images, text, state) is encoded once; its keys and values are closed over by the step. They are not repeated
for the window's rows: the step is vmapped over rows and they are not (arXiv 2410.24164, section IV).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.recipes.common import Report, compare


class Expert(nn.Module):
    """Two blocks in which the chunk's tokens attend to the prefix and to each other; returns a velocity."""

    width: int = 64

    @nn.compact
    def __call__(self, actions: jax.Array, time: jax.Array, prefix: jax.Array) -> jax.Array:
        angle = time[:, None] * jnp.exp(jnp.linspace(0.0, 5.0, self.width // 2))[None]
        x = nn.Dense(self.width)(actions) + jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)[:, None]
        for _ in range(2):
            seen = jnp.concatenate([prefix, nn.LayerNorm()(x)], axis=1)
            x += nn.MultiHeadDotProductAttention(num_heads=4)(nn.LayerNorm()(x), seen)
            x += nn.Dense(self.width)(nn.gelu(nn.Dense(2 * self.width)(nn.LayerNorm()(x))))
        return nn.Dense(actions.shape[-1])(nn.LayerNorm()(x)) - actions


def run(batch: int = 4, steps: int = 40, horizon: int = 16, dims: int = 7, tol: float = 1e-2) -> Report:
    """Random weights. Time runs from noise at 1 to actions at 0, as in openpi's loop."""
    noise = jax.random.normal(jax.random.key(0), (batch, horizon, dims))
    prefix = jax.random.normal(jax.random.key(1), (batch, 32, 64))
    expert = Expert()
    params = expert.init(jax.random.key(2), noise, jnp.ones(batch), prefix)

    def step(actions: jax.Array, times: tuple[jax.Array, jax.Array]) -> jax.Array:
        now, following = times
        # The expert's velocity points to the actions, and time runs away from them.
        towards: Any = expert.apply(params, actions, jnp.full(batch, now), prefix)
        return actions + (now - following) * towards

    grid = jnp.linspace(1.0, 0.0, steps + 1)
    return compare("pi0-style action expert", step, noise, (grid[:-1], grid[1:]), tol=tol)
