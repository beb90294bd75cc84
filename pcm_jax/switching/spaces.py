r"""How the base model and the fine-tuned one share a row.

Feature space blends what two networks say, for two calls on the rows where both have a share:

    f = (1 - lambda) model(params, x, t) + lambda tuned_model(tuned_params, x, t)

Parameter space blends the weights, W + lambda dW with a low-rank dW, in one call (arXiv 2503.19731, section 4).
Either way the extra cost ends with the round in which lambda is 0 on all rows: the loop has rounds of the base model
alone (recurrence/loop.py). Where all rows have a share of 1, `FeatureSpace` makes one call. That takes a branch in the
program, and XLA's CPU backend computes the gradient of a convolution seven times slower inside a branch: the trainer
sets branch=False.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
from jax import lax

from pcm_jax.parallel import vary_like
from pcm_jax.types import Array, Cond, ModelFn, Params, PyTree

FactoredFn = Callable[[Params, PyTree, Array, Array, Cond, Array], Array]
"""(params, low-rank factors, x `[R, ...]`, t `[R]`, cond, lambda `[R]`) -> prediction `[R, ...]`."""


class Adapter(Protocol):
    """A fine-tuned model beside the base model; a pytree of arrays, so that other weights do not compile again."""

    def predict(self, model_fn: ModelFn, params: Params, x: Array, t: Array, cond: Cond, share: Array) -> Array:
        """The blended prediction of rows x `[R, ...]` with lambda = `share` `[R]`; exactly the base's where it is 0."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FeatureSpace:
    """Two calls, any pair of models. params: the fine-tuned ones; model_fn: None is the base model's function."""

    params: Params
    model_fn: ModelFn | None = dataclasses.field(default=None, metadata={"static": True})
    branch: bool = dataclasses.field(default=True, metadata={"static": True})

    def predict(self, model_fn: ModelFn, params: Params, x: Array, t: Array, cond: Cond, share: Array) -> Array:
        held = (params, self.params, x, t, cond)

        def base() -> Array:
            return vary_like(model_fn(params, x, t, cond), held)

        def tuned() -> Array:
            return vary_like((self.model_fn or model_fn)(self.params, x, t, cond), held)

        def both() -> Array:
            # Selected, not only summed: a NaN of the fine-tuned model must not reach rows that have left it.
            weight = share.reshape(share.shape + (1,) * (x.ndim - 1)).astype(x.dtype)
            plain, other = base(), tuned()
            return jnp.where(weight == 0, plain, (1 - weight) * plain + weight * other)

        return lax.cond(jnp.all(share == 1), tuned, both) if self.branch else both()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ParameterSpace:
    """One call. factors: low-rank factors; model_fn: applies them, for Linen modules `pcm_jax.networks.factored`."""

    factors: PyTree
    model_fn: FactoredFn = dataclasses.field(metadata={"static": True})

    def predict(self, model_fn: ModelFn, params: Params, x: Array, t: Array, cond: Cond, share: Array) -> Array:
        return self.model_fn(params, self.factors, x, t, cond, share)
