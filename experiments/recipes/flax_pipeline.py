"""A Flax pipeline of MaxDiffusion's shape: parameters in one tree, guidance in the step, `lax.scan` over the timesteps.

`denoise_loop` is what such pipelines jit; the scan inside it is the line that changes.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

import pcm_jax as pcm
from experiments.recipes.common import Report, compare


def step_of(model: pcm.pretrained.Pretrained, params: Any, labels: jax.Array, scale: float) -> Any:
    """One DDIM step under classifier-free guidance, conditional and unconditional rows in one call."""
    batch, null = len(labels), jnp.full(len(labels), 10)

    def step(latents: jax.Array, inputs: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        time, alpha, following = inputs
        both = jnp.concatenate([latents, latents])
        noise = model.model_fn(params, both, jnp.full(2 * batch, time), jnp.concatenate([labels, null]))
        given, free = jnp.split(noise, 2)
        noise = free + scale * (given - free)
        data = jnp.clip((latents - jnp.sqrt(1 - alpha) * noise) / jnp.sqrt(alpha), -1, 1)
        noise = (latents - jnp.sqrt(alpha) * data) / jnp.sqrt(1 - alpha)
        return jnp.sqrt(following) * data + jnp.sqrt(1 - following) * noise

    return step


def run(batch: int = 8, steps: int = 50, scale: float = 1.5, tol: float = 1e-2) -> Report:
    """The shipped digits model as the pipeline's UNet."""
    model = pcm.pretrained.load("digits")
    latents, xs = inputs(model, batch, steps)
    step = step_of(model, model.params, jnp.arange(batch) % 10, scale)
    return compare("Flax pipeline with guidance", step, latents, xs, tol=tol)


def inputs(model: pcm.pretrained.Pretrained, batch: int, steps: int) -> tuple[jax.Array, Any]:
    """Latents, and what the steps read: times, and the cumulative alphas before and behind them."""
    assert isinstance(model.schedule, pcm.schedules.VP)
    cumulative = jnp.asarray(model.schedule.alphas_cumprod, jnp.float32)
    times = jnp.round(jnp.linspace(999.0, 0.0, steps)).astype(int)
    xs = (times.astype(jnp.float32), cumulative[times], jnp.append(cumulative[times[1:]], 1.0))
    return jax.random.normal(jax.random.key(0), (batch, *model.sample_shape)), xs
