"""LoRA inside any Linen module, from outside: W x + lambda (alpha / r) B (A x), with a lambda for each batch row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from pcm_jax.guidance import ClassifierFree, PromptGuided
from pcm_jax.lora import LoRA, check
from pcm_jax.networks.adapters import LinenModel
from pcm_jax.switching import ParameterSpace
from pcm_jax.types import Array, Cond, ModelFn, Params, unwrapped

_LEAF = {nn.Dense: "kernel", nn.Conv: "kernel", nn.ConvTranspose: "kernel", nn.Embed: "embedding"}


@dataclasses.dataclass(frozen=True)
class FactoredLinen:
    """`(params, lora, x, t, cond, share [R]) -> prediction` of a Linen module: one call, any lambda in each row."""

    module: nn.Module

    def __call__(self, params: Params, lora: LoRA, x: Array, t: Array, cond: Cond, share: Array) -> Array:
        check(params, lora)
        left = set(lora.factors)

        def interceptor(
            next_fun: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
        ) -> Any:
            out = next_fun(*args, **kwargs)
            leaf = _LEAF.get(type(context.module))
            name = "/".join((*context.module.path, leaf or ""))
            if context.method_name != "__call__" or name not in lora.factors:
                return out
            left.discard(name)
            return out + _low_rank(context.module, name, leaf, lora, args[0], share).astype(out.dtype)

        with nn.intercept_methods(interceptor):
            out: Any = self.module.apply({"params": params}, x, t, unwrapped(cond))
        if left:
            raise ValueError(
                f"{sorted(left)[0]!r} cannot be adapted in factored form: only Dense, Conv, ConvTranspose and Embed "
                "layers can. Leave it out with lora.init(select=..), or use "
                "switching.FeatureSpace(lora.merge(params, lora))"
            )
        return out


@dataclasses.dataclass(frozen=True)
class FactoredGuided:
    """The same under guidance: both predictions of a row have its lambda."""

    inner: FactoredLinen
    guide: ClassifierFree | PromptGuided

    def __call__(self, params: Params, lora: LoRA, x: Array, t: Array, cond: Cond, share: Array) -> Array:
        def call(params: Params, x: Array, t: Array, cond: Cond) -> Array:
            return self.inner(params, lora, x, t, cond, jnp.tile(share, x.shape[0] // share.shape[0]))

        return dataclasses.replace(self.guide, model_fn=call)(params, x, t, cond)


def _low_rank(module: Any, name: str, leaf: str | None, lora: LoRA, x: Array, share: Array) -> Array:
    """lambda (alpha / r) B (A x): A x is the layer itself with r features, whatever its strides and padding."""
    if getattr(module, "feature_group_count", 1) != 1:
        raise ValueError(f"{name!r} is a grouped convolution, which has no factored form; leave it out with select=")
    if x.shape[0] != share.shape[0]:
        raise ValueError(
            f"{name!r} sees {x.shape[0]} rows where the batch has {share.shape[0]}, so it has no lambda for each row; "
            "leave it out with lora.init(select=..)"
        )
    pair = lora.factors[name]
    down, up = pair["down"], pair["up"]
    changes = {"features": down.shape[-1], "parent": None, "name": None}
    if not isinstance(module, nn.Embed):
        changes["use_bias"] = False
    hidden = module.clone(**changes).apply({"params": {leaf: down}}, x)
    weight = (lora.scale * share).astype(hidden.dtype).reshape(share.shape + (1,) * (hidden.ndim - 1))
    return (weight * hidden) @ up.astype(hidden.dtype)


def factored(model_fn: ModelFn, lora: LoRA) -> ParameterSpace:
    """The adapter of a Linen model and its LoRA in parameter space: one call, no cost once lambda is 0 everywhere.

    Args:
        model_fn: from `pcm_jax.networks.linen`, or that under guidance.
        lora: from `pcm_jax.lora.init`, trained.
    """
    guide = model_fn if isinstance(model_fn, (ClassifierFree, PromptGuided)) else None
    model_fn = model_fn if guide is None else guide.model_fn
    if not isinstance(model_fn, LinenModel):
        raise ValueError(
            f"the factored form needs a Linen model from pcm_jax.networks.linen(module), got {type(model_fn).__name__};"
            " any other function takes switching.FeatureSpace(lora.merge(params, lora))"
        )
    inner = FactoredLinen(model_fn.module)
    return ParameterSpace(lora, inner if guide is None else FactoredGuided(inner, guide))
