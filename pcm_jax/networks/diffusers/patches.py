"""What transformers over patches share: patches in and out, positions, and modulation by time and condition."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from pcm_jax.networks.diffusers.layers import Settings
from pcm_jax.types import Array


def sincos(height: int, width: int, dim: int, base: int, xp: Any = np) -> Any:
    r"""Positions of a grid `[height, width, dim]`, float32: sines and cosines of the column, then of the row.

        [sin(w_k p), cos(w_k p)],   w_k = 10000^(-4 k / dim),   p = i base / n

    base: patches along a side at the size that the network was trained on; other grids are stretched to it. xp: numpy
    for a constant of the program, jax.numpy to compute it there.
    """
    frequency = 10_000.0 ** (-xp.arange(dim // 4) / (dim / 4))
    rows, columns = (xp.arange(size, dtype=np.float32) / np.float32(size / base) for size in (height, width))
    waves = [xp.concatenate([xp.sin(p), xp.cos(p)], -1) for p in (xp.outer(p, frequency) for p in (columns, rows))]
    shape = (height, width, dim // 2)
    both = [xp.broadcast_to(waves[0][None], shape), xp.broadcast_to(waves[1][:, None], shape)]
    return xp.concatenate(both, axis=-1).astype(np.float32)


class PatchEmbed(nn.Module):
    """Images `[B, H, W, C]` as tokens `[B, h, w, features]` of patches, with their positions added.

    base: see `sincos`. largest: positions are the middle of a stored grid of this side (arXiv 2403.03206); None
    computes them.
    """

    features: int
    patch: int
    base: int
    settings: Settings
    largest: int | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        s, size = self.settings, self.patch
        if x.shape[1] % size or x.shape[2] % size:
            raise ValueError(f"images of {x.shape[1]}x{x.shape[2]} are not made of patches of {size}x{size}; pad them")
        x = s.conv(self.features, "proj", size, padding=(0, 0), stride=size)(x)
        height, width = x.shape[1:3]
        if self.largest is None:
            return x + jnp.asarray(sincos(height, width, self.features, self.base), s.dtype)[None]
        side = self.largest
        if max(height, width) > side:
            raise ValueError(
                f"{height}x{width} patches are more than this network's {side}x{side}; take smaller images"
            )

        def initial(_: Array) -> Array:
            # As a constant it would be gigabytes for a moment: the largest grids are of 384 x 384.
            return sincos(side, side, self.features, self.base, jnp).reshape(1, side * side, self.features)

        stored = self.param("pos_embed", initial)
        top, left = (side - height) // 2, (side - width) // 2
        grid = stored.reshape(1, side, side, -1)[:, top : top + height, left : left + width]
        return x + grid.astype(s.dtype)


def unpatch(tokens: Array, channels: int, patch: int, name: str, settings: Settings) -> Array:
    """Images `[B, H, W, channels]` of tokens `[B, h, w, features]`, by the layer `name` of the calling module.

    It stays in float32: its rounding goes into the sampler's state.
    """
    single = dataclasses.replace(settings, dtype=jnp.float32)
    x = single.dense(patch * patch * channels, name)(tokens.astype(jnp.float32))
    batch, height, width = x.shape[:3]
    x = x.reshape(batch, height, width, patch, patch, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height * patch, width * patch, channels)


def modulation(features: Array, parts: int, width: int, settings: Settings) -> list[Array]:
    """`parts` vectors `[B, 1, width]` of features `[B, D]`, by the layer "linear" of the calling module."""
    found = settings.dense(parts * width, "linear")(nn.silu(features))
    return jnp.split(found[:, None], parts, axis=-1)


class Modulation(nn.Module):
    """`modulation` as a module of its own."""

    parts: int
    width: int
    settings: Settings

    @nn.compact
    def __call__(self, features: Array) -> list[Array]:
        return modulation(features, self.parts, self.width, self.settings)


def modulated(x: Array, shift: Array, scale: Array, settings: Settings, eps: float = 1e-6) -> Array:
    """norm(x) (1 + scale) + shift, the norm without weights (arXiv 2212.09748, adaLN)."""
    return settings.layer_norm(eps=eps)(x) * (1 + scale) + shift
