"""Classifier-free guidance as a model function."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from pcm_jax.types import Array, Cond, ModelFn, Params

Null = int | float | tuple[tuple[str, int | float], ...]


@dataclasses.dataclass(frozen=True)
class ClassifierFree:
    r"""u + s (c - u), u the prediction under the null condition, c under `cond`, in one call on twice the rows."""

    model_fn: ModelFn
    scale: float
    null_cond: Null

    def __call__(self, params: Params, x: Array, t: Array, cond: Cond) -> Array:
        if cond is None:
            raise ValueError("classifier-free guidance needs cond; without one call the network itself")
        twice = jax.tree.map(lambda null, given: jnp.concatenate([null, given]), self._null_like(cond), cond)
        both = self.model_fn(params, jnp.concatenate([x, x]), jnp.concatenate([t, t]), twice)
        null, given = jnp.split(both, 2)
        return null + self.scale * (given - null)

    def _null_like(self, cond: Cond) -> Cond:
        null = self.null_cond
        if isinstance(null, tuple):
            nulls = dict(null)
            if not isinstance(cond, Mapping) or set(cond) != set(nulls):
                raise ValueError(f"null_cond has the keys {sorted(nulls)}; cond must be a mapping with the same keys")
            return {name: jnp.full_like(leaf, nulls[name]) for name, leaf in cond.items()}
        return jax.tree.map(lambda leaf: jnp.full_like(leaf, null), cond)


def classifier_free(model_fn: ModelFn, scale: float, null_cond: int | float | Mapping[str, Any]) -> ClassifierFree:
    r"""Guided model_fn: u + scale (c - u).

    Args:
        model_fn: conditional network, trained with label dropout.
        scale: 0 is the unconditional model, 1 the conditional one, above 1 exaggerates the condition. The paper's w
            is scale - 1.
        null_cond: what "no condition" is: a number that fills every leaf of cond (a network's null label is its
            num_classes), or one number for each key of a cond mapping.

    Returns:
        A hashable model_fn; equal arguments give equal ones, so samplers compile once.

    Reference: arXiv 2207.12598, equation 6.
    """
    frozen: Null = tuple(sorted(null_cond.items())) if isinstance(null_cond, Mapping) else null_cond
    return ClassifierFree(model_fn, float(scale), frozen)
