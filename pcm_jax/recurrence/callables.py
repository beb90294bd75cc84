"""What functions that the loop is given return, found by tracing them: norms, slopes, switches."""

from __future__ import annotations

import functools
from types import FunctionType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pcm_jax import checks
from pcm_jax.recurrence.linearization import History, Sums
from pcm_jax.switching import SwitchInput
from pcm_jax.types import PyTree


def check_norm(norm: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """A norm of changes `[W, B, ...]` is one number for each state, and none is negative."""
    if not callable(norm) or not checks.hashable(norm):
        raise ValueError(f"a certificate's norm must be a function such as pcm_jax.norms.noise_units, got {norm!r}")
    _norm(norm, shape, jnp.dtype(dtype))


def check_slope(linearization: Any, rows: PyTree, steps: int, shape: tuple[int, ...], dtype: Any) -> None:
    """A slope is one number for each row and sample; rows: a pytree like what it is shown."""
    if isinstance(linearization, type) or not callable(getattr(linearization, "slope", None)):
        raise ValueError(
            "linearization must be an object such as pcm_jax.linearization.secant() (mind the parentheses)"
        )
    if not checks.hashable(linearization) or not hasattr(linearization, "needs_history"):
        raise ValueError(
            f"linearization must be hashable, with needs_history and slope(..), got {linearization!r}: compiled "
            "samplers are kept by it, so make it a frozen dataclass"
        )
    columns: Any = jax.tree.structure(rows)
    _slope(linearization, columns, steps, shape, jnp.dtype(dtype))


def check_schedule(switch: Any, steps: int, window: int, max_rounds: int) -> None:
    """A switch: hashable, made for this many steps, lambda `[W, B]` in [0, 1] in every round."""
    if not callable(switch) or not checks.hashable(switch) or isinstance(switch, type):
        raise ValueError(f"switch must be a hashable function such as pcm_jax.switching.after(2), got {switch!r}")
    if getattr(switch, "__module__", None) == "pcm_jax.switching.schedules" and isinstance(switch, FunctionType):
        raise ValueError(f"switch must be an object such as pcm_jax.switching.{switch.__name__}(..): call it first")
    measured = getattr(switch, "num_steps", steps)
    if measured != steps:
        raise ValueError(
            f"the switch's table was measured on a solver of {measured} rows, this one has {steps}; measure "
            "one with pcm_jax.training.calibrate"
        )
    # What a switch says later than in twice as many rounds as there are steps is clipped to [0, 1] by the loop.
    _share(switch, min(max_rounds, 2 * steps), window)


@functools.lru_cache(maxsize=32)
def _share(switch: Any, rounds: int, window: int) -> None:
    """Ask the switch about every round, with rows that have not moved, that move, and that have not been seen."""
    with jax.ensure_compile_time_eval():
        row = jnp.arange(window, dtype=jnp.int32)[:, None]
        for change in (jnp.inf, 1.0, 0.0):
            residual = jnp.full((window, 1), change, jnp.float32)

            def ask(k: Any, residual: Any = residual) -> Any:
                return switch(SwitchInput(k, row, jnp.broadcast_to(k, row.shape), residual))

            remedy = "a switch takes a SwitchInput of arrays and returns lambda, without branching on their values"
            found = checks.traced("switch(see)", remedy, ask, jnp.int32(0))
            if getattr(found, "shape", None) != (window, 1):
                raise ValueError(
                    f"switch must return lambda [W, B] = {(window, 1)} here, one for each row it is shown (see.row), "
                    f"got {getattr(found, 'shape', type(found).__name__)}"
                )
            if jnp.issubdtype(found.dtype, jnp.complexfloating):
                raise ValueError(f"switch must return real numbers, got {found.dtype}; take their real part")
            share = checks.concrete("switch", jax.lax.map(ask, jnp.arange(rounds, dtype=jnp.int32))).astype(np.float64)
            if not np.all((share >= 0) & (share <= 1)):
                where = int(np.argwhere(~((share >= 0) & (share <= 1)))[0][0])
                raise ValueError(
                    f"switch returned lambda outside [0, 1] in round {where}: {share[where].ravel()[0]:g}; "
                    "wrap it in jnp.clip(.., 0, 1)"
                )


@functools.lru_cache(maxsize=32)
def _norm(norm: Any, shape: tuple[int, ...], dtype: Any) -> None:
    change, variance = jax.ShapeDtypeStruct((1, *shape), dtype), jax.ShapeDtypeStruct((1, shape[0]), dtype)
    remedy = "a norm takes (change [W, B, ...], variance [W, B])"
    found = checks.traced(
        f"norm(change {checks.shapes(change)}, variance {checks.shapes(variance)})", remedy, norm, change, variance
    )
    if getattr(found, "shape", None) != variance.shape:
        raise ValueError(
            f"norm must return [W, B], one residual for each state, got {getattr(found, 'shape', found)}; reduce over "
            "the sample's own axes alone: axis=tuple(range(2, change.ndim))"
        )
    if not jnp.issubdtype(found.dtype, jnp.floating):
        raise ValueError(f"norm must return floats, got {found.dtype}")
    drawn = np.random.default_rng(0).normal(size=change.shape)
    with jax.ensure_compile_time_eval():
        for probe in (np.zeros_like(drawn), drawn, -drawn):
            said = checks.concrete("norm", norm(jnp.asarray(probe, dtype), jnp.ones(variance.shape, dtype)))
            if not np.all(said >= 0):
                raise ValueError(
                    f"norm returned {said[~(said >= 0)][0]:g} for finite changes; a residual is at least 0, as of "
                    "pcm_jax.norms.root_mean_square, or every state would be accepted at once"
                )


@functools.lru_cache(maxsize=32)
def _slope(linearization: Any, columns: Any, steps: int, shape: tuple[int, ...], dtype: Any) -> None:
    x = jax.ShapeDtypeStruct((steps, *shape), dtype)
    flags: Any = jax.ShapeDtypeStruct((steps, shape[0]), jnp.bool_)
    rows = columns.unflatten([jax.ShapeDtypeStruct((steps, 1), dtype)] * columns.num_leaves)
    number: Any = jax.ShapeDtypeStruct((steps, shape[0]), jnp.promote_types(dtype, jnp.float32))
    before: Any = History(x, x, flags, None, Sums(*[number] * 6)) if linearization.needs_history else None
    what = f"linearization.slope on states {checks.shapes(x)}"
    remedy = "it takes (rows, x, step, before, first) as pcm_jax.linearization.Linearization says"
    out = checks.traced(what, remedy, lambda *seen: linearization.slope(*seen, None), rows, x, x, before)
    if getattr(out, "shape", None) != (steps, shape[0]):
        raise ValueError(
            f"linearization.slope returned {getattr(out, 'shape', type(out).__name__)}; a slope is [W, B], here "
            f"{(steps, shape[0])}, one for each row and sample"
        )
