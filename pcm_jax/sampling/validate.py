"""Static mistakes, found before anything is traced. Each message names the remedy."""

from __future__ import annotations

import functools
import operator
import warnings
from collections.abc import Hashable
from types import FunctionType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pcm_jax import priors
from pcm_jax.solvers import Solver
from pcm_jax.switching import SwitchInput
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


def check_loop(
    solver: Solver,
    noise: Any,
    *,
    window: Any,
    tol: Any,
    max_rounds: Any,
    linearization: Any,
    certificate: Any,
    init: Any,
    executor: Any,
    preview: Any = None,
) -> None:
    """What only the parallel sampler takes."""
    steps = len(solver)
    _whole("window", window, 1, steps, "the solver's number of network calls; window=None is all of them")
    _whole("max_rounds", max_rounds, 1, None, f"{steps} always suffice")
    if isinstance(tol, (str, bool)) or jnp.shape(tol) != ():
        raise ValueError(f"tol must be one number for the whole batch, got {tol!r}")
    if not isinstance(tol, jax.core.Tracer) and not 0 <= tol < float("inf"):
        raise ValueError(
            f"tol must be at least 0 and finite, got {tol}; 0 asks for states that no longer change at all"
        )
    _warn_of_rounding(tol, steps, jnp.result_type(noise))
    if isinstance(linearization, type) or not hasattr(linearization, "slope"):
        raise ValueError(
            "linearization must be an object such as pcm_jax.linearization.secant() (mind the parentheses)"
        )
    if not hasattr(executor, "compile"):
        raise ValueError("executor must be an object such as pcm_jax.parallel.pmap() (mind the parentheses)")
    if isinstance(certificate, type) or not hasattr(certificate, "judge"):
        raise ValueError(
            "certificate must be an object such as pcm_jax.certificates.defect_sum() (mind the parentheses), got "
            f"{certificate!r}"
        )
    _check_norm(certificate.norm, jnp.shape(noise), jnp.promote_types(jnp.result_type(noise), jnp.float32))
    if preview is not None:
        if isinstance(preview, int) or not len(preview):
            raise ValueError(
                f"preview must hold a row for each number of rounds, such as (40, 44, {steps}), got {preview!r}"
            )
        for row in preview:
            _whole("preview", row, 0, steps, "rows of the solver, one for each number of rounds")
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


_FASTEST = (None, "default", "fastest")
"""Settings of jax_default_matmul_precision under which accelerators round float32 products to TF32 or bfloat16."""


def _warn_of_rounding(tol: Any, steps: int, dtype: Any) -> None:
    if isinstance(tol, jax.core.Tracer) or tol == 0:
        return
    state = jnp.promote_types(dtype, jnp.float32)
    network = float(jnp.finfo(dtype).eps)
    if dtype == jnp.float32 and jax.config.jax_default_matmul_precision in _FASTEST:  # type: ignore[attr-defined]
        network = {"gpu": 2.0**-10, "tpu": 2.0**-7}.get(jax.default_backend(), network)
    least = network + steps**0.5 * float(jnp.finfo(state).eps)
    if tol < least:
        warnings.warn(
            f"tol={tol:g} is below {least:.1g}, by which rounding alone sets the samplers apart here (network in "
            f"{dtype} on {jax.default_backend()}): raise tol, take a wider dtype or "
            "jax.default_matmul_precision('float32'), or pass tol=0 for rounds until nothing changes",
            stacklevel=4,
        )


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
    if not callable(switch) or not isinstance(switch, Hashable) or isinstance(switch, type):
        raise ValueError(f"switch must be a hashable function such as pcm_jax.switching.after(2), got {switch!r}")
    if getattr(switch, "__module__", None) == "pcm_jax.switching.schedules" and isinstance(switch, FunctionType):
        raise ValueError(f"switch must be an object such as pcm_jax.switching.{switch.__name__}(..): call it first")
    _check_share(switch, len(solver), window)
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


def _check_norm(norm: Any, shape: tuple[int, ...], dtype: Any) -> None:
    if not callable(norm):
        raise ValueError(f"a certificate's norm must be a function such as pcm_jax.norms.noise_units, got {norm!r}")
    change, variance = jax.ShapeDtypeStruct((1, *shape), dtype), jax.ShapeDtypeStruct((1, shape[0]), dtype)
    found = jax.eval_shape(norm, change, variance)
    if getattr(found, "shape", None) != variance.shape:
        raise ValueError(
            f"norm must return [W, B], one residual for each state, got {getattr(found, 'shape', found)}; reduce over "
            "the sample's own axes alone: axis=tuple(range(2, change.ndim))"
        )


@functools.lru_cache(maxsize=32)
def _check_share(switch: Any, steps: int, window: int) -> None:
    """Ask the switch about every round, with rows that have not moved, that move, and that have not been seen."""
    with jax.ensure_compile_time_eval():
        row = jnp.arange(window, dtype=jnp.int32)[:, None]
        for change in (jnp.inf, 1.0, 0.0):
            residual = jnp.full((window, 1), change, jnp.float32)

            def ask(k: Any, residual: Any = residual) -> Any:
                return switch(SwitchInput(k, row, jnp.broadcast_to(k, row.shape), residual))

            found = jax.eval_shape(ask, jnp.int32(0))
            if getattr(found, "shape", None) != (window, 1):
                raise ValueError(
                    f"switch must return lambda [W, B] = {(window, 1)} here, one for each row it is shown (see.row), "
                    f"got {getattr(found, 'shape', type(found).__name__)}"
                )
            share = np.asarray(jax.lax.map(ask, jnp.arange(steps, dtype=jnp.int32)), np.float64)
            if not np.all((share >= 0) & (share <= 1)):
                where = int(np.argwhere(~((share >= 0) & (share <= 1)))[0][0])
                raise ValueError(
                    f"switch returned lambda outside [0, 1] in round {where}: {share[where].ravel()[0]:g}; "
                    "wrap it in jnp.clip(.., 0, 1)"
                )


def _whole(name: str, value: Any, low: int, high: int | None, hint: str) -> None:
    try:
        number = operator.index(value)
    except TypeError:  # jax's error for a traced number is one too
        number = None
    if number is None or isinstance(value, bool) or number < low or (high is not None and number > high):
        wanted = f"{low}..{high}" if high is not None else f"at least {low}"
        raise ValueError(f"{name} must be a whole number, {wanted} ({hint}), got {value!r}")


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
