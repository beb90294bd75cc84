"""Static mistakes, found before anything is traced. Each message names the remedy."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pcm_jax import checks, priors
from pcm_jax.sampling.callables import check_clip, check_network
from pcm_jax.sampling.columns import check_table
from pcm_jax.sampling.preview import check_preview
from pcm_jax.solvers import Solver
from pcm_jax.types import ModelFn, is_shared


def check_common(model_fn: ModelFn, params: Any, noise: Any, solver: Any, cond: Any, key: Any, step_noise: Any) -> None:
    """What both samplers need: a noise batch, a table, conditioning of the same batch, and a network that fits."""
    if not isinstance(noise, (jax.Array, np.ndarray)):
        raise ValueError(f"noise must be an array, got {type(noise).__name__}; draw it with jax.random.normal")
    checks.floats("noise", noise, "draw it with jax.random.normal")
    if not isinstance(solver, Solver):
        raise ValueError(
            f"solver must be a pcm_jax.solvers table such as ddim(schedule, 50), got {type(solver).__name__}"
        )
    check_table(solver)
    shape = jnp.shape(noise)
    if len(shape) < 2 or 0 in shape:
        raise ValueError(
            f"noise must be [batch, ...] with no empty axis, got shape {shape}; add a batch axis with x[None]"
        )
    for path, leaf in jax.tree_util.tree_leaves_with_path(cond, is_leaf=is_shared):
        if not is_shared(leaf) and jnp.shape(leaf)[:1] != shape[:1]:
            raise ValueError(
                f"cond{jax.tree_util.keystr(path)} has shape {jnp.shape(leaf)}, its leading axis must be the batch of "
                f"{shape[0]}; repeat it for every sample, or mark what all samples see with pcm_jax.Shared(value)"
            )
    if key is not None and not checks.keys_of(key, ()):
        raise ValueError("key must be one PRNG key such as jax.random.key(0); split a batch of keys with jax.vmap")
    if solver.stochastic and (key is None) == (step_noise is None):
        raise ValueError(f"{solver.name} injects noise: pass either key= or step_noise= [{len(solver)}, *noise.shape]")
    if step_noise is not None:
        checks.floats("step_noise", step_noise, "draw it with jax.random.normal")
        if jnp.shape(step_noise) != (len(solver), *shape):
            raise ValueError(f"step_noise must have shape {(len(solver), *shape)}, got {jnp.shape(step_noise)}")
    check_network(model_fn, params, noise, cond)
    check_clip(solver, shape, jnp.promote_types(jnp.result_type(noise), jnp.float32))


def check_first_guess(solver: Solver, noise: Any, init: Any, preview: Any) -> None:
    """A trajectory to start from, and rows to show."""
    steps = len(solver)
    if preview is not None:
        check_preview(preview, solver)
    if init is not None:
        checks.floats("init", init, "make it with pcm_jax.guess.from_data")
        expected = (steps + 1, *jnp.shape(noise))
        if jnp.shape(init) != expected:
            raise ValueError(f"init must be a trajectory of shape {expected} (noise first), got {jnp.shape(init)}")


def check_prior(prior: Any, solver: Solver, noise: Any, cond: Any, init: Any) -> None:
    """A first guess comes from init or from a prior that fits."""
    if prior is None:
        return
    if init is not None:
        raise ValueError("init and prior are both first guesses: pass one of them")
    priors.check(prior, solver, noise, cond)
