"""Static mistakes in what the loop is told, found before anything is traced. Each message names the remedy."""

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

from pcm_jax.switching import SwitchInput
from pcm_jax.types import PyTree


def check_loop(
    steps: int,
    first: PyTree,
    *,
    window: Any,
    tol: Any,
    max_rounds: Any,
    linearization: Any,
    certificate: Any,
    executor: Any,
) -> None:
    """Options of every parallel solve; first: the first state, leaves `[B, ...]`."""
    whole_number("window", window, 1, steps, "the number of sequential steps; window=None is all of them")
    whole_number("max_rounds", max_rounds, 1, None, f"{steps} always suffice")
    if isinstance(tol, (str, bool)) or jnp.shape(tol) != ():
        raise ValueError(f"tol must be one number for the whole batch, got {tol!r}")
    if not isinstance(tol, jax.core.Tracer) and not 0 <= tol < float("inf"):
        raise ValueError(
            f"tol must be at least 0 and finite, got {tol}; 0 asks for states that no longer change at all"
        )
    leaves = jax.tree.leaves(first)
    _warn_of_rounding(tol, steps, max((jnp.result_type(leaf) for leaf in leaves), key=lambda t: jnp.finfo(t).eps))
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
    for leaf in leaves:
        _check_norm(certificate.norm, jnp.shape(leaf), jnp.promote_types(jnp.result_type(leaf), jnp.float32))


def check_schedule(switch: Any, steps: int, window: int) -> None:
    """A switch: hashable, lambda `[W, B]` in [0, 1] in every round."""
    if not callable(switch) or not isinstance(switch, Hashable) or isinstance(switch, type):
        raise ValueError(f"switch must be a hashable function such as pcm_jax.switching.after(2), got {switch!r}")
    if getattr(switch, "__module__", None) == "pcm_jax.switching.schedules" and isinstance(switch, FunctionType):
        raise ValueError(f"switch must be an object such as pcm_jax.switching.{switch.__name__}(..): call it first")
    _check_share(switch, steps, window)


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


def whole_number(name: str, value: Any, low: int, high: int | None, hint: str) -> None:
    """ValueError unless `value` is one within low..high."""
    try:
        number = operator.index(value)
    except TypeError:  # jax's error for a traced number is one too
        number = None
    if number is None or isinstance(value, bool) or number < low or (high is not None and number > high):
        wanted = f"{low}..{high}" if high is not None else f"at least {low}"
        raise ValueError(f"{name} must be a whole number, {wanted} ({hint}), got {value!r}")
