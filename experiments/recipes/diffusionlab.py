"""A sampler of diffusionlab (JAX), unchanged: its own `update` is the step.

Its loop is Python's, over `SamplerStep`s of x, t and the schedule's coefficients. The step is that loop's body; of its
carry only x reads its own past, and `pcm_jax.scan` finds that out. Runs where the package is installed.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from experiments.recipes.common import Report, compare


def run(batch: int = 4, steps: int = 50, tol: float = 1e-2) -> Report:
    """Its DDIM sampler with some noise, on its variance-preserving process; a small random network of the data."""
    from diffusionlab.processes.gaussian import VPCosine
    from diffusionlab.sampling.continuous import DDMSampler
    from diffusionlab.typing import Prediction

    sampler = DDMSampler(VPCosine((6,)), eta=0.3)
    first, second = (0.5 * jax.random.normal(jax.random.key(seed), (6, 6)) for seed in (0, 1))

    def predictor(x: jax.Array, t: jax.Array) -> Any:
        return Prediction(value=jnp.tanh(jnp.tanh(x @ first + t[:, None]) @ second), kind="x_0")

    def step(carry: Any, inputs: tuple[jax.Array, jax.Array]) -> Any:
        key, following = inputs
        return sampler.update(key, predictor(carry.x, carry.t), carry, following)

    times = jnp.broadcast_to(jnp.linspace(0.98, 0.02, steps + 1)[:, None], (steps + 1, batch))
    start = sampler.initialize(jax.random.key(2), jax.random.normal(jax.random.key(3), (batch, 6)), times[0])
    return compare("diffusionlab's DDIM", step, start, (jax.random.split(jax.random.key(4), steps), times[1:]), tol=tol)
