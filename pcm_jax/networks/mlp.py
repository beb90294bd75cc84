"""A residual MLP denoiser for flat data and very small images."""

from __future__ import annotations

import math

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from pcm_jax import checks
from pcm_jax.networks import fields
from pcm_jax.networks.embeddings import ConditionEmbedding, FiLM
from pcm_jax.types import Array, Cond


class ResidualBlock(nn.Module):
    """h + W_2 silu(W_1 FiLM(norm h)); W_2 starts at zero, so a new block is the identity."""

    expansion: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, h: Array, features: Array) -> Array:
        width = h.shape[-1]
        inner = nn.LayerNorm(dtype=self.dtype, use_bias=False, use_scale=False, name="norm")(h)
        inner = FiLM(dtype=self.dtype, name="film")(inner, features)
        inner = nn.silu(nn.Dense(self.expansion * width, dtype=self.dtype, name="dense_in")(inner))
        return h + nn.Dense(width, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="dense_out")(inner)


class ResidualMLP(nn.Module):
    """prediction `[B, ...]` of x `[B, ...]` at network time t `[B]`, any sample shape: x is flattened inside.

    width: features of the residual stream. depth: number of blocks. expansion: hidden width of a block / width.
    num_classes: 0 for unconditional, else cond is int32 `[B]` and num_classes is the null label.
    observations: cond is float `[B, ..]` instead, such as a robot's.
    dtype: what the layers compute in; parameters are float32 and the output has x's dtype.
    """

    width: int = 256
    depth: int = 4
    expansion: int = 1
    num_classes: int = 0
    time_scale: float = 1.0
    observations: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, t: Array, cond: Cond = None) -> Array:
        for name in ("width", "depth", "expansion"):
            checks.whole(name, getattr(self, name), 2 if name == "width" else 1)
        fields.check(self, zero=("num_classes",))
        size = math.prod(x.shape[1:])
        told = (self.width, self.num_classes, self.time_scale, self.observations, self.dtype)
        features = ConditionEmbedding(*told, name="embed")(t, cond)
        h = nn.Dense(self.width, dtype=self.dtype, name="in")(x.reshape((x.shape[0], size)).astype(self.dtype))
        for index in range(self.depth):
            h = ResidualBlock(self.expansion, self.dtype, name=f"block_{index}")(h, features)
        h = FiLM(dtype=self.dtype, name="film_out")(nn.LayerNorm(dtype=self.dtype, name="norm_out")(h), features)
        # The last layer stays in float32: its rounding goes straight into the sampler's state.
        out = nn.Dense(size, kernel_init=nn.initializers.zeros, name="out")(nn.silu(h).astype(jnp.float32))
        return out.reshape(x.shape).astype(x.dtype)
