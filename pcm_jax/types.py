"""Shapes and callables that every room of the library agrees on.

Axes, in this order, wherever they appear: W rows of the window, B samples, then the sample's own dimensions.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, Protocol, TypeAlias

import jax
import numpy as np

Array: TypeAlias = jax.Array
"""An array of JAX."""
ArrayLike: TypeAlias = jax.Array | np.ndarray
"""An array of JAX or NumPy."""
PyTree: TypeAlias = Any
"""Nested containers of arrays."""
Params: TypeAlias = PyTree
"""Of a network: any pytree."""
Cond: TypeAlias = PyTree
"""What a network is conditioned on: None, or a pytree whose leaves have the batch axis first."""

PredictionType: TypeAlias = Literal["epsilon", "data", "v", "velocity", "edm"]
"""What a network returns."""
Spacing: TypeAlias = Literal["leading", "trailing", "linspace", "karras"]
"""How a schedule's times are spread over the steps."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Shared:
    """A part of `cond` that all samples see: never repeated for rows or samples, so it needs no batch axis.

    value: any pytree, such as the keys and values of a prefix, or one text `[1, L, D]` for the whole batch. A model
    function finds the `Shared` in its cond and reads `.value`; the Flax adapters of `pcm_jax.networks` hand the module
    the value itself. The networks of this package take labels `[1]`, observations `[1, ..]` and texts `[1, L, D]`.

    Example:
        text = pcm_jax.Shared(diffusers.text_embeddings("a cat", folder))
        pcm_jax.sample_picard(model.model_fn, model.params, noise, solver, cond=text)
    """

    value: PyTree


def is_shared(node: PyTree) -> bool:
    """For `is_leaf` of tree maps."""
    return isinstance(node, Shared)


def unwrapped(cond: Cond) -> Cond:
    """`cond` with the values of `Shared` parts in their places."""
    return jax.tree.map(lambda part: part.value if is_shared(part) else part, cond, is_leaf=is_shared)


class ModelFn(Protocol):
    """The only thing that the samplers know about a network.

    `x` is `[B, ...]`, `t` is `[B]` (the schedule's network time), every leaf of `cond` is `[B, ...]` but for those of
    its `Shared` parts, or `cond` is None. Returns a prediction of `x`'s shape and dtype. Rows must not see each other.
    """

    def __call__(self, params: Params, x: Array, t: Array, cond: Cond, /) -> Array: ...


def rows_of(model_fn: ModelFn) -> int:
    """Network rows of one evaluation: the function's attribute `rows`, 2 under guidance, 1 without it."""
    return int(getattr(model_fn, "rows", 1))
