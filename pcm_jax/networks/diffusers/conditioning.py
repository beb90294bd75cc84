"""What the networks of diffusers are told besides x: the time and the class."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from pcm_jax.networks.diffusers.layers import Settings, TimestepEmbedding, sinusoidal
from pcm_jax.types import Array


def label_features(label: Array, count: int, width: int, settings: Settings, name: str) -> Array:
    """Rows `[B, width]` of a table of `count`; NaN for labels `[B]` that it does not have."""
    table = nn.Embed(count, width, dtype=settings.dtype, name=name)
    # A gather would clamp a label out of range, and read another class.
    known = (label >= 0) & (label < count)
    return jnp.where(known[:, None], table(jnp.where(known, label, 0)), jnp.asarray(jnp.nan, settings.dtype))


def part(cond: Any, key: str, batch: int, width: int | None, example: str) -> Array:
    """`cond[key]` of `[B, .., width]`, or `[1, .., width]` for all samples; ValueError where it is missing or else."""
    if not isinstance(cond, Mapping) or key not in cond:
        raise ValueError(f"this network needs cond={example}; {key!r} is missing")
    found: Array = jnp.asarray(cond[key])
    if not found.ndim or found.shape[0] not in (1, batch) or (width is not None and found.shape[-1] != width):
        wanted = f"({batch}, .., {width or 'any'})"
        raise ValueError(f"cond[{key!r}] has shape {tuple(found.shape)}, this network takes {wanted}: cond={example}")
    return found


def text_and_sizes(cond: Any, batch: int, width: int, dim: int, cos_first: bool, shift: float) -> Array:
    """The pooled text beside sinusoids, `dim` for each, of sizes and crops: `[B, width]`, or `[1, width]` for all."""
    told = "{'text': [B, L, D], 'pooled': [B, P], 'time_ids': [B, n]}"
    ids = part(cond, "time_ids", batch, None, told)
    if ids.ndim != 2:
        raise ValueError(f"cond['time_ids'] has shape {tuple(ids.shape)}; it is a row of sizes for each sample: {told}")
    pooled = part(cond, "pooled", batch, width - dim * ids.shape[1], told)
    waves = sinusoidal(ids.reshape(-1), dim, cos_first=cos_first, shift=shift).reshape(ids.shape[0], -1)
    rows = max(len(pooled), len(waves))
    return jnp.concatenate([jnp.broadcast_to(each, (rows, each.shape[1])) for each in (pooled, waves)], axis=-1)


def class_features(
    cond: Array | None, kind: str | None, count: int | None, width: int, settings: Settings, project_time: Any
) -> Array | None:
    """Features of the class, `[B, width]`, by the layer "class_embedding" of the calling module; None without one.

    cond: labels int `[B]` (kind None), times `[B]` ("timestep"), or vectors `[B, D]` (the other kinds).
    """
    if kind is None and count is None:
        if cond is not None:
            raise ValueError("this network takes no class labels; leave them out")
        return None
    if cond is None:
        raise ValueError("this network needs class labels; pass cond, or cond={'label': ..} beside a text")
    if kind is None:
        assert count is not None
        return label_features(cond, count, width, settings, "class_embedding")
    if kind == "identity":
        return cond.astype(settings.dtype)
    if kind == "simple_projection":
        return settings.dense(width, "class_embedding")(cond)
    # The "projection" of diffusers always has a SiLU.
    silu = dataclasses.replace(settings, activation="silu") if kind == "projection" else settings
    features = project_time(cond) if kind == "timestep" else cond
    return TimestepEmbedding(width, silu, name="class_embedding")(features.astype(settings.dtype))


def example(
    levels: int, channels: int, kind: str | None, count: int | None, width: int, projected: int | None
) -> tuple[Any, Any, Any]:
    """Shapes of x, t and label of a UNet; the arguments are those of `class_features`, and its inputs' width."""
    # One pixel at the lowest level would leave nothing to halve with an odd size.
    side, number = 2**levels, jax.ShapeDtypeStruct((1,), jnp.float32)
    label = None
    if kind is None and count is not None:
        label = jax.ShapeDtypeStruct((1,), jnp.int32)
    elif kind == "timestep":
        label = number
    elif kind is not None:
        size = width if kind == "identity" else projected
        label = jax.ShapeDtypeStruct((1, size), jnp.float32)
    return jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32), number, label
