"""Tables that are built by hand: columns of one length, of finite numbers, and the fields that tell them apart."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pcm_jax import checks
from pcm_jax.solvers import Solver

_KNOWN = ("name", "clip", "stochastic", "lags", "start_scale", "history", "memory", "raw", "alpha", "sigma")


def check_table(solver: Solver) -> None:
    """A solver's columns and fields. Numbers of columns that are traced, or on a device, are not looked at.

    Raises:
        ValueError: names the column or field; tables of `pcm_jax.solvers` pass.
    """
    columns: dict[str, Any] = {
        field.name: getattr(solver, field.name) for field in dataclasses.fields(solver) if field.name not in _KNOWN
    }
    columns |= {name: getattr(solver, name) for name in ("raw", "alpha", "sigma") if getattr(solver, name) is not None}
    checks.flag("stochastic", solver.stochastic)
    checks.number("start_scale", solver.start_scale, 0, above=True)
    if not isinstance(solver.name, str):
        raise ValueError(f"a solver's name is text, got {checks.shown(solver.name)}")
    if solver.clip is not None and not callable(solver.clip):
        checks.number("clip", solver.clip, 0, above=True)
    for name, value, size in (
        ("lags", solver.lags, None),
        ("history", solver.history, None),
        ("memory", solver.memory, 2),
    ):
        if not (value is None and name == "memory") and not (isinstance(value, tuple) and size in (None, len(value))):
            raise ValueError(f"a solver's {name} is a tuple{' (r, s)' if size else ''}, got {checks.shown(value)}")
    for lag in solver.lags:
        checks.whole("lags", lag)
    if len(set(solver.lags)) != len(solver.lags) or len(solver.history) != len(solver.lags):
        raise ValueError(
            f"a solver has one column of history for each of its lags, got {len(solver.history)} columns for the lags "
            f"{solver.lags}"
        )
    columns |= {f"history[{index}]": column for index, column in enumerate(solver.history)}
    columns |= {f"memory[{index}]": column for index, column in enumerate(solver.memory or ())}
    steps = np.shape(solver.time)[:1] if isinstance(solver.time, (np.ndarray, jax.Array)) else (0,)
    for name, column in columns.items():
        _column(name, column, steps)


def _column(name: str, column: Any, steps: tuple[int, ...]) -> None:
    if not isinstance(column, (np.ndarray, jax.Array)) or column.shape != steps or 0 in steps:
        raise ValueError(
            f"a solver's {name} is an array [T] with a number for each of its T >= 1 steps, here {steps}, got "
            f"{checks.shown(column)}"
        )
    if not jnp.issubdtype(column.dtype, jnp.floating):
        raise ValueError(f"a solver's {name} is an array of floats, got {column.dtype}; cast it to float32")
    if isinstance(column, np.ndarray):
        if not np.isfinite(column).all():
            at = int(np.flatnonzero(~np.isfinite(column))[0])
            raise ValueError(f"a solver's {name} is finite everywhere, got {column[at]:g} in step {at}")
        if name == "variance" and (column < 0).any():
            raise ValueError(f"a solver's variance is at least 0, got {column.min():g}")
