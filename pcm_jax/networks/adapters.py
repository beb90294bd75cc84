"""Flax modules as model functions: hashable, and equal for equal modules, so that samplers do not compile twice."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
from flax import nnx as flax_nnx

from pcm_jax.types import Array, Cond, Params, unwrapped


@dataclasses.dataclass(frozen=True)
class LinenModel:
    """model_fn of a Linen module with the call `module(x, t, cond)`; params is its "params" collection."""

    module: nn.Module

    def __call__(self, params: Params, x: Array, t: Array, cond: Cond) -> Array:
        out: Any = self.module.apply({"params": params}, x, t, unwrapped(cond))
        return out

    def init(self, key: Array, x: Array, t: Array, cond: Cond = None) -> Params:
        """New parameters for inputs like these."""
        return self.module.init(key, x, t, unwrapped(cond))["params"]


@dataclasses.dataclass(frozen=True)
class NNXModel:
    """model_fn of an NNX module with the call `module(x, t, cond)`; params is its state as a plain nested dict."""

    graphdef: flax_nnx.GraphDef[Any]

    def __call__(self, params: Params, x: Array, t: Array, cond: Cond) -> Array:
        module = flax_nnx.merge(self.graphdef, params)
        return module(x, t, unwrapped(cond))


def linen(module: nn.Module) -> LinenModel:
    """model_fn(params, x, t, cond) of a Linen module.

    Example:
        model_fn = pcm_jax.networks.linen(ResidualMLP(num_classes=10))
        params = model_fn.init(key, x, t, labels)
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"linen() takes a flax.linen.Module, got {type(module).__name__}; for NNX use networks.nnx()")
    try:
        hash(module)
    except TypeError as error:
        raise ValueError(
            f"{type(module).__name__} has a field that cannot be hashed ({error}); use tuples instead of lists and "
            "frozen mappings instead of dicts"
        ) from error
    return LinenModel(module)


def nnx_model(graphdef: flax_nnx.GraphDef[Any]) -> NNXModel:
    """model_fn of `graphdef, params = flax.nnx.split(module)`."""
    if not isinstance(graphdef, flax_nnx.GraphDef):
        raise ValueError(f"nnx_model() takes the graphdef of flax.nnx.split(module), got {type(graphdef).__name__}")
    return NNXModel(graphdef)


def nnx(module: flax_nnx.Module) -> tuple[NNXModel, Params]:
    """(model_fn, params) of an NNX module. All of its state, random-number counts too, becomes params."""
    if not isinstance(module, flax_nnx.Module):
        raise ValueError(f"nnx() takes a flax.nnx.Module, got {type(module).__name__}; for Linen use networks.linen()")
    graphdef, state = flax_nnx.split(module)
    return nnx_model(graphdef), flax_nnx.to_pure_dict(state)
