"""Static mistakes in what the loop is told, found before anything is traced. Each message names the remedy."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp

from pcm_jax import checks
from pcm_jax.recurrence.callables import check_norm, check_slope
from pcm_jax.types import PyTree


def check_loop(
    steps: int,
    first: PyTree,
    rows: PyTree,
    *,
    window: Any,
    tol: Any,
    max_rounds: Any,
    linearization: Any,
    certificate: Any,
    executor: Any,
    stats: Any,
) -> None:
    """Options of every parallel solve; first: the first state, leaves `[B, ...]`; rows: what slopes are shown."""
    checks.whole("window", window, 1, steps, "the number of sequential steps; window=None is all of them")
    most = _MOST_ROUNDS * steps
    checks.whole("max_rounds", max_rounds, 1, most, f"{steps} always suffice")
    if stats not in ("counts", "full"):
        raise ValueError(f"stats must be 'counts' or 'full' (the report of every round), got {stats!r}")
    if isinstance(tol, (str, bool)) or getattr(tol, "shape", ()) != ():
        raise ValueError(f"tol must be one number for the whole batch, got {tol!r}")
    if not isinstance(tol, jax.core.Tracer):
        checks.number("tol", tol, 0, hint="0 asks for states that no longer change at all")
    leaves = jax.tree.leaves(first)
    _warn_of_rounding(tol, steps, max((jnp.result_type(leaf) for leaf in leaves), key=lambda t: jnp.finfo(t).eps))
    if not hasattr(executor, "compile"):
        raise ValueError("executor must be an object such as pcm_jax.parallel.pmap() (mind the parentheses)")
    executor.check(jnp.shape(leaves[0])[0])
    if isinstance(certificate, type) or not hasattr(certificate, "judge"):
        raise ValueError(
            "certificate must be an object such as pcm_jax.certificates.defect_sum() (mind the parentheses), got "
            f"{certificate!r}"
        )
    for leaf in leaves:
        state = jnp.promote_types(jnp.result_type(leaf), jnp.float32)
        check_slope(linearization, rows, steps, jnp.shape(leaf), state)
        check_norm(certificate.norm, jnp.shape(leaf), state)


_MOST_ROUNDS = 100
"""Of max_rounds, for each of the solver's steps: what a switch holds back, it holds back for fewer rounds."""


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
