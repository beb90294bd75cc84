"""Shapes and callables that every room of the library agrees on.

Axes, in this order, wherever they appear: W rows of the window, B samples, then the sample's own dimensions.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias

import jax
import numpy as np

Array: TypeAlias = jax.Array
ArrayLike: TypeAlias = jax.Array | np.ndarray
PyTree: TypeAlias = Any
Params: TypeAlias = PyTree
Cond: TypeAlias = PyTree

PredictionType: TypeAlias = Literal["epsilon", "data", "v", "velocity", "edm"]
Spacing: TypeAlias = Literal["leading", "trailing", "linspace", "karras"]


class ModelFn(Protocol):
    """The only thing that the samplers know about a network.

    `x` is `[B, ...]`, `t` is `[B]` (the schedule's network time), every leaf of `cond` is `[B, ...]` or `cond` is
    None. Returns a prediction of `x`'s shape and dtype. Rows must not see each other.
    """

    def __call__(self, params: Params, x: Array, t: Array, cond: Cond, /) -> Array: ...


def rows_of(model_fn: ModelFn) -> int:
    """Network rows of one evaluation: the function's attribute `rows`, 2 under guidance, 1 without it."""
    return int(getattr(model_fn, "rows", 1))
