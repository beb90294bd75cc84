"""What the networks of diffusers are told besides x: the time and the class."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from pcm_jax.networks.diffusers.layers import Settings, TimestepEmbedding
from pcm_jax.types import Array


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
        table = nn.Embed(count, width, dtype=settings.dtype, name="class_embedding")
        # A gather would clamp a label out of range, and read another class.
        known = (cond >= 0) & (cond < count)
        return jnp.where(known[:, None], table(jnp.where(known, cond, 0)), jnp.asarray(jnp.nan, settings.dtype))
    if kind == "identity":
        return cond.astype(settings.dtype)
    if kind == "simple_projection":
        return settings.dense(width, "class_embedding")(cond)
    # The "projection" of diffusers always has a SiLU.
    silu = dataclasses.replace(settings, activation="silu") if kind == "projection" else settings
    features = project_time(cond) if kind == "timestep" else cond
    return TimestepEmbedding(width, silu, name="class_embedding")(features.astype(settings.dtype))
