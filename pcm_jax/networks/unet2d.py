"""A small class-conditional UNet for NHWC images: DDPM's (arXiv 2006.11239) with FiLM conditioning."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from pcm_jax import checks
from pcm_jax.networks import fields
from pcm_jax.networks.embeddings import ConditionEmbedding, FiLM
from pcm_jax.types import Array, Cond


def _group_norm(channels: int, dtype: DTypeLike, name: str) -> nn.GroupNorm:
    return nn.GroupNorm(num_groups=math.gcd(channels, 8), dtype=dtype, name=name)


class ResBlock(nn.Module):
    """Two 3x3 convolutions, FiLM between them; the second starts at zero, so a new block is its skip path."""

    channels: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, features: Array) -> Array:
        h = nn.silu(_group_norm(x.shape[-1], self.dtype, "norm_in")(x))
        h = nn.Conv(self.channels, (3, 3), dtype=self.dtype, name="conv_in")(h)
        h = FiLM(self.dtype, name="film")(_group_norm(self.channels, self.dtype, "norm_out")(h), features)
        zero = nn.initializers.zeros
        h = nn.Conv(self.channels, (3, 3), dtype=self.dtype, kernel_init=zero, name="conv_out")(nn.silu(h))
        if x.shape[-1] != self.channels:
            x = nn.Conv(self.channels, (1, 1), dtype=self.dtype, name="skip")(x)
        return x + h


class SelfAttention(nn.Module):
    """Multi-head attention over the H * W positions of one image; the output layer starts at zero."""

    num_heads: int = 4
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        batch, height, width, channels = x.shape
        if channels % self.num_heads:
            raise ValueError(f"{channels} channels do not divide into {self.num_heads} heads; change num_heads")
        h = _group_norm(channels, self.dtype, "norm")(x).reshape(batch, height * width, channels)
        qkv = nn.Dense(3 * channels, dtype=self.dtype, name="qkv")(h)
        shape = (batch, height * width, self.num_heads, channels // self.num_heads)
        query, key, value = (part.reshape(shape) for part in jnp.split(qkv, 3, axis=-1))
        h = jax.nn.dot_product_attention(query, key, value).reshape(batch, height * width, channels)
        h = nn.Dense(channels, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="out")(h)
        return x + h.reshape(x.shape)


def space_to_depth(x: Array, patch: int) -> Array:
    """`[B, H, W, C]` -> `[B, H / patch, W / patch, patch^2 C]`."""
    batch, height, width, channels = x.shape
    if height % patch or width % patch:
        raise ValueError(f"images of {height}x{width} do not divide into patches of {patch}; change patch")
    x = x.reshape(batch, height // patch, patch, width // patch, patch, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // patch, width // patch, patch**2 * channels)


def depth_to_space(x: Array, patch: int) -> Array:
    """The inverse of `space_to_depth`."""
    batch, height, width, values = x.shape
    x = x.reshape(batch, height, width, patch, patch, values // patch**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * patch, width * patch, values // patch**2)


class UNet2D(nn.Module):
    """prediction `[B, H, W, C]` of x `[B, H, W, C]` at network time t `[B]`.

    channels: one entry a level; each level but the last halves H and W (odd sizes round up). H and W are free.
    blocks: ResBlocks a level. attention: levels, counted from 0 at full size, that attend.
    patch: squares of patch x patch pixels become channels on the way in and pixels again on the way out (sub-pixel
    convolution, arXiv 1609.05158): the network works at 1/patch of the resolution, for 1/patch^2 of the cost.
    num_classes, time_scale, dtype: as in `ResidualMLP`.
    """

    channels: tuple[int, ...] = (32, 64)
    blocks: int = 1
    attention: tuple[int, ...] = ()
    patch: int = 1
    num_heads: int = 4
    num_classes: int = 0
    time_scale: float = 1.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, t: Array, cond: Cond = None) -> Array:
        checks.channels(self.channels)
        for name in ("blocks", "patch", "num_heads"):
            checks.whole(name, getattr(self, name))
        fields.check(self, zero=("num_classes", "attention"))
        for level in self.attention:
            checks.whole("attention", level, 0, len(self.channels) - 1, "the levels that attend, the first is 0")
        if x.ndim != 4:
            raise ValueError(f"UNet2D takes images [B, H, W, C], got shape {x.shape}; use ResidualMLP for flat data")
        embed = ConditionEmbedding(
            4 * self.channels[0], self.num_classes, self.time_scale, dtype=self.dtype, name="embed"
        )
        features = embed(t, cond)
        h = space_to_depth(x, self.patch).astype(self.dtype)
        h = nn.Conv(self.channels[0], (3, 3), dtype=self.dtype, name="in")(h)
        skips = []
        for level in range(len(self.channels)):
            if level:
                down = nn.Conv(self.channels[level], (3, 3), (2, 2), dtype=self.dtype, name=f"down_{level}")
                h = down(h)
            for block in range(self.blocks):
                h = self._block(h, features, level, f"enc_{level}_{block}")
                skips.append(h)
        h = self._block(h, features, len(self.channels) - 1, "middle")
        for level in reversed(range(len(self.channels))):
            for block in range(self.blocks):
                skip = skips.pop()
                if h.shape[1:3] != skip.shape[1:3]:
                    h = jax.image.resize(h, (*skip.shape[:3], h.shape[-1]), "nearest")
                h = self._block(jnp.concatenate([h, skip], axis=-1), features, level, f"dec_{level}_{block}")
        h = nn.silu(_group_norm(h.shape[-1], self.dtype, "norm_out")(h)).astype(jnp.float32)
        values = self.patch**2 * x.shape[-1]
        out = nn.Conv(values, (3, 3), kernel_init=nn.initializers.zeros, name="out")(h)
        return depth_to_space(out, self.patch).astype(x.dtype)

    def _block(self, h: Array, features: Array, level: int, name: str) -> Array:
        h = ResBlock(self.channels[level], self.dtype, name=name)(h, features)
        if level in self.attention:
            h = SelfAttention(self.num_heads, self.dtype, name=f"{name}_attention")(h)
        return h
