"""One decision of a policy, as one compiled program."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pcm_jax.data.robots import Normalizer
from pcm_jax.policy.vision import Vision
from pcm_jax.priors import GaussianPrior
from pcm_jax.results import SampleOutput
from pcm_jax.sampling import from_data, sample_picard, sample_sequential
from pcm_jax.sampling.network import draw_step_noise
from pcm_jax.solvers import Solver
from pcm_jax.switching import Adapter
from pcm_jax.types import Array, ModelFn, Params

SPREAD = 0.3
"""Of the prior's variances, what a plan that was moved on leaves open. Push-T in closed loop, rounds to tol 1e-2: 5.1,
with all of the spread 5.3, from the prior alone 5.4, from the plan alone 6.8; Meta-World push 6.3, 6.6, 7.0 and 7.7."""


class Decision(NamedTuple):
    """actions: to carry out, `[action_horizon, A]` in the robot's units. plan: the whole chunk `[horizon, A]` as the
    sampler left it, in [-1, 1]. out: the sampler's result, with rounds and certificate, of batch 1 or B.

    A batch of decisions has leading axis B.
    """  # noqa: D205

    actions: Array
    plan: Array
    out: SampleOutput


class How(NamedTuple):
    """What a decision is compiled for."""

    model_fn: ModelFn
    shape: tuple[int, int]
    first: int
    carried_out: int
    options: tuple[tuple[str, Any], ...] | None


@functools.partial(jax.jit, static_argnums=0)
def decide(
    how: How,
    params: Params,
    adapter: Adapter | None,
    prior: GaussianPrior | None,
    solver: Solver,
    observation: Normalizer,
    action: Normalizer,
    vision: Vision | None,
    history: Any,
    keys: Array,
    plan: Array | None,
) -> Decision:
    """Draw the noise, sample a chunk, and cut out what is carried out of it."""
    noise, z = draw_noise(keys, solver, how.shape)
    cond = seen(observation, vision, history)
    if how.options is None:
        out = sample_sequential(how.model_fn, params, noise, solver, cond=cond, step_noise=z)
    else:
        options = dict(how.options) | {"adapter": adapter, "prior": prior}
        if plan is not None:
            guess = moved_on(plan, how.carried_out)
            if prior is None:
                options["init"] = from_data(solver, noise, guess, z)
            else:
                options["prior"] = prior.around(guess, SPREAD)
        out = sample_picard(how.model_fn, params, noise, solver, cond=cond, step_noise=z, **options)
    chunk = out.sample[:, how.first : how.first + how.carried_out]
    return Decision(action.unnormalize(chunk), out.sample, out)


def seen(observation: Normalizer, vision: Vision | None, history: Any) -> Array:
    """What the network is conditioned on, `[B, obs_horizon, ..]`."""
    if vision is not None:
        return vision.features(observation, history)
    return observation.normalize(history.astype(jnp.float32))


def draw_noise(keys: Array, solver: Solver, shape: tuple[int, ...]) -> tuple[Array, Array | None]:
    """First states `[B, *shape]` and step noise `[T, B, *shape]` or None, every sample from its own key `[B]`."""

    def draw(key: Array) -> tuple[Array, Array | None]:
        first, steps = jax.random.split(key)
        z = draw_step_noise(steps, len(solver), (1, *shape), jnp.float32)[:, 0] if solver.stochastic else None
        return jax.random.normal(first, shape), z

    return jax.vmap(draw, out_axes=(0, 1))(keys)


def moved_on(plan: Array, steps: int) -> Array:
    """A chunk `[B, horizon, A]` seen `steps` later; its last action is repeated."""
    return jnp.concatenate([plan[:, steps:], jnp.repeat(plan[:, -1:], min(steps, plan.shape[1]), axis=1)], axis=1)
