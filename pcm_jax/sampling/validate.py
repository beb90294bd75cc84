"""Static mistakes, found before anything is traced. Each message names the remedy."""

from __future__ import annotations

import functools
from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pcm_jax import priors
from pcm_jax.recurrence.validate import check_schedule, whole_number
from pcm_jax.solvers import Solver
from pcm_jax.types import ModelFn, is_shared


def check_common(model_fn: ModelFn, params: Any, noise: Any, solver: Any, cond: Any, key: Any, step_noise: Any) -> None:
    """What both samplers need: a noise batch, a table, conditioning of the same batch, and a network that fits."""
    if not isinstance(noise, (jax.Array, np.ndarray)):
        raise ValueError(f"noise must be an array, got {type(noise).__name__}; draw it with jax.random.normal")
    if not isinstance(solver, Solver):
        raise ValueError(
            f"solver must be a pcm_jax.solvers table such as ddim(schedule, 50), got {type(solver).__name__}"
        )
    if not jnp.issubdtype(jnp.result_type(noise), jnp.floating):
        raise ValueError(f"noise must be floating point, got {jnp.result_type(noise)}; draw it with jax.random.normal")
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
    if key is not None and not _is_one_key(key):
        raise ValueError("key must be one PRNG key such as jax.random.key(0); split a batch of keys with jax.vmap")
    if solver.stochastic and (key is None) == (step_noise is None):
        raise ValueError(f"{solver.name} injects noise: pass either key= or step_noise= [{len(solver)}, *noise.shape]")
    if step_noise is not None and jnp.shape(step_noise) != (len(solver), *shape):
        raise ValueError(f"step_noise must have shape {(len(solver), *shape)}, got {jnp.shape(step_noise)}")
    if not isinstance(model_fn, Hashable) or not callable(model_fn):
        raise ValueError(
            "model_fn must be a hashable function (params, x, t, cond) -> prediction, because compiled samplers are "
            "kept by it; wrap a Flax module with pcm_jax.networks.linen(module)"
        )
    try:
        described = jax.tree.map(_describe, (params, noise, cond))
    except TypeError as error:
        raise ValueError(f"params and cond must be pytrees of arrays: {error}") from error
    leaves, structure = jax.tree.flatten(described)
    _check_network(model_fn, structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves))


def check_first_guess(solver: Solver, noise: Any, init: Any, preview: Any) -> None:
    """A trajectory to start from, and rows to show."""
    steps = len(solver)
    if preview is not None:
        if isinstance(preview, int) or not len(preview):
            raise ValueError(
                f"preview must hold a row for each number of rounds, such as (40, 44, {steps}), got {preview!r}"
            )
        for row in preview:
            whole_number("preview", row, 0, steps, "rows of the solver, one for each number of rounds")
    expected = (steps + 1, *jnp.shape(noise))
    if init is not None and jnp.shape(init) != expected:
        raise ValueError(f"init must be a trajectory of shape {expected} (noise first), got {jnp.shape(init)}")


def check_prior(prior: Any, solver: Solver, noise: Any, cond: Any, init: Any) -> None:
    """A first guess comes from init or from a prior that fits."""
    if prior is None:
        return
    if init is not None:
        raise ValueError("init and prior are both first guesses: pass one of them")
    priors.check(prior, solver, noise, cond)


def check_switch(
    solver: Solver, model_fn: Any, params: Any, noise: Any, cond: Any, *, adapter: Any, switch: Any, window: int
) -> None:
    """A fine-tuned model and who decides on its share: both or none; lambda `[W, B]` in [0, 1]."""
    if (adapter is None) != (switch is None):
        missing = "switch= such as pcm_jax.switching.after(2)" if switch is None else "adapter= (a fine-tuned model)"
        raise ValueError(f"adapter and switch belong together: pass {missing} too")
    if adapter is None:
        return
    if isinstance(adapter, type) or not hasattr(adapter, "predict"):
        raise ValueError(
            "adapter must be an object such as pcm_jax.switching.FeatureSpace(params), got "
            f"{getattr(adapter, '__name__', type(adapter).__name__)}"
        )
    check_schedule(switch, len(solver), window)
    leaves, structure = jax.tree.flatten(jax.tree.map(_describe, (adapter, params, noise, cond)))
    _check_adapter(model_fn, structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves))


@functools.lru_cache(maxsize=32)
def _check_adapter(model_fn: ModelFn, structure: Any, described: tuple[tuple[tuple[int, ...], Any], ...]) -> None:
    adapter, params, noise, cond = structure.unflatten([jax.ShapeDtypeStruct(*pair) for pair in described])
    time = jax.ShapeDtypeStruct(noise.shape[:1], jnp.float32)
    share = jax.ShapeDtypeStruct(noise.shape[:1], jnp.promote_types(noise.dtype, jnp.float32))

    def predict(adapter: Any, params: Any, noise: Any, cond: Any, time: Any, share: Any) -> Any:
        return adapter.predict(model_fn, params, noise, time, cond, share)

    out = jax.eval_shape(predict, adapter, params, noise, cond, time, share)
    if (getattr(out, "shape", None), getattr(out, "dtype", None)) != (noise.shape, noise.dtype):
        raise ValueError(f"the adapter returned {out} for an input {noise}; it must be like the input")


def _is_one_key(key: Any) -> bool:
    if not isinstance(key, (jax.Array, np.ndarray)):
        return False
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key.ndim == 0
    return key.dtype == jnp.uint32 and key.ndim == 1  # jax.random.PRNGKey's old form


def _describe(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf))


@functools.lru_cache(maxsize=32)
def _check_network(model_fn: ModelFn, structure: Any, described: tuple[tuple[tuple[int, ...], Any], ...]) -> None:
    params, noise, cond = structure.unflatten([jax.ShapeDtypeStruct(*pair) for pair in described])
    time = jax.ShapeDtypeStruct(noise.shape[:1], jnp.float32)
    out = jax.eval_shape(model_fn, params, noise, time, cond)
    if getattr(out, "shape", None) != noise.shape:
        raise ValueError(
            f"the network returned {getattr(out, 'shape', type(out).__name__)} for an input of {noise.shape}; a "
            "prediction has the input's shape (drop extra outputs such as a learned variance)"
        )
    if out.dtype != noise.dtype:
        raise ValueError(
            f"the network returned {out.dtype} for an input of {noise.dtype}; end it with .astype(x.dtype), or draw "
            f"the noise in {out.dtype}"
        )
