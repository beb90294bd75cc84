"""Static mistakes, found before anything is traced. Each message names the remedy."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pcm_jax import checks, priors
from pcm_jax.sampling.callables import check_clip, check_network, check_norm, check_slope
from pcm_jax.sampling.preview import check_preview
from pcm_jax.solvers import Solver
from pcm_jax.types import ModelFn


def check_common(model_fn: ModelFn, params: Any, noise: Any, solver: Any, cond: Any, key: Any, step_noise: Any) -> None:
    """What both samplers need: a noise batch, a table, conditioning of the same batch, and a network that fits."""
    if not isinstance(noise, (jax.Array, np.ndarray)):
        raise ValueError(f"noise must be an array, got {type(noise).__name__}; draw it with jax.random.normal")
    checks.floats("noise", noise, "draw it with jax.random.normal")
    if not isinstance(solver, Solver):
        raise ValueError(
            f"solver must be a pcm_jax.solvers table such as ddim(schedule, 50), got {type(solver).__name__}"
        )
    shape = jnp.shape(noise)
    if len(shape) < 2 or 0 in shape:
        raise ValueError(
            f"noise must be [batch, ...] with no empty axis, got shape {shape}; add a batch axis with x[None]"
        )
    for path, leaf in jax.tree_util.tree_leaves_with_path(cond):
        if jnp.shape(leaf)[:1] != shape[:1]:
            raise ValueError(
                f"cond{jax.tree_util.keystr(path)} has shape {jnp.shape(leaf)}, its leading axis must be the batch of "
                f"{shape[0]}; repeat it for every sample"
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
    checks.whole("window", window, 1, steps, "the solver's number of network calls; window=None is all of them")
    most = _MOST_ROUNDS * steps
    checks.whole("max_rounds", max_rounds, 1, most, f"{steps} always suffice; the report of the rounds has this size")
    if isinstance(tol, (str, bool)) or getattr(tol, "shape", ()) != ():
        raise ValueError(f"tol must be one number for the whole batch, got {tol!r}")
    if not isinstance(tol, jax.core.Tracer):
        checks.number("tol", tol, 0, hint="0 asks for states that no longer change at all")
    _warn_of_rounding(tol, steps, jnp.result_type(noise))
    state = jnp.promote_types(jnp.result_type(noise), jnp.float32)
    check_slope(linearization, solver, jnp.shape(noise), state)
    if not hasattr(executor, "compile"):
        raise ValueError("executor must be an object such as pcm_jax.parallel.pmap() (mind the parentheses)")
    if isinstance(certificate, type) or not hasattr(certificate, "judge"):
        raise ValueError(
            "certificate must be an object such as pcm_jax.certificates.defect_sum() (mind the parentheses), got "
            f"{certificate!r}"
        )
    check_norm(certificate.norm, jnp.shape(noise), state)
    if preview is not None:
        check_preview(preview, solver)
    if init is not None:
        checks.floats("init", init, "make it with pcm_jax.guess.from_data")
        expected = (steps + 1, *jnp.shape(noise))
        if jnp.shape(init) != expected:
            raise ValueError(f"init must be a trajectory of shape {expected} (noise first), got {jnp.shape(init)}")


_MOST_ROUNDS = 100
"""Of max_rounds, for each of the solver's steps: what a switch holds back, it holds back for fewer rounds."""


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
