"""Flax Linen denoisers, and adapters that turn a Flax module into a `model_fn`."""

from __future__ import annotations

from typing import Any

import flax.linen as nn

from pcm_jax.networks.adapters import LinenModel, NNXModel, linen, nnx, nnx_model
from pcm_jax.networks.factored import FactoredLinen, factored
from pcm_jax.networks.mlp import ResidualMLP
from pcm_jax.networks.unet1d import ConditionalUNet1D
from pcm_jax.networks.unet2d import UNet2D

__all__ = [
    "ConditionalUNet1D",
    "FactoredLinen",
    "LinenModel",
    "NNXModel",
    "ResidualMLP",
    "UNet2D",
    "by_name",
    "factored",
    "linen",
    "nnx",
    "nnx_model",
]

_BY_NAME: dict[str, type[nn.Module]] = {"mlp": ResidualMLP, "unet1d": ConditionalUNet1D, "unet2d": UNet2D}


def by_name(name: str, **fields: Any) -> nn.Module:
    """The network called `name`, for configuration files: `by_name("mlp", width=256)`. Lists become tuples."""
    if name not in _BY_NAME:
        raise ValueError(f"unknown network {name!r}; choose one of {', '.join(_BY_NAME)}")
    network = _BY_NAME[name]
    unknown = set(fields) - set(network.__dataclass_fields__)
    if unknown:
        raise ValueError(f"{network.__name__} has no field {sorted(unknown)[0]!r}; it has {_fields(network)}")
    return network(**{key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()})


def _fields(network: type[nn.Module]) -> str:
    return ", ".join(field for field in network.__dataclass_fields__ if field not in ("parent", "name"))
