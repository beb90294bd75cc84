"""Attention over pixels and over text, as in latent diffusion (arXiv 2112.10752)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from pcm_jax.networks.diffusers.layers import Settings
from pcm_jax.types import Array


def project(
    tokens: Array, layer: str, heads: int, head_dim: int, settings: Settings, bias: bool, norm: str | None = None
) -> Array:
    """Tokens `[B, N, C]` as `[B, N, heads, head_dim]`; norm: the name of a root-mean-square norm of each head."""
    found = settings.dense(heads * head_dim, layer, bias)(tokens).reshape(*tokens.shape[:2], heads, head_dim)
    return found if norm is None else nn.RMSNorm(epsilon=1e-6, dtype=settings.dtype, name=norm)(found)


def attend(
    x: Array, context: Array, heads: int, head_dim: int, settings: Settings, bias: bool, norm: bool = False
) -> Array:
    """Multi-head attention of x `[B, N, C]` on context `[B, M, D]`, or `[1, M, D]` for all, C features out.

    Its layers belong to the module that calls this. The softmax is computed in float32 whatever the layers compute in,
    so diffusers' `upcast_attention` has no effect here. norm: of queries and keys.
    """
    shared = (heads, head_dim, settings, bias)
    query = project(x, "to_q", *shared, "norm_q" if norm else None)
    key = project(context, "to_k", *shared, "norm_k" if norm else None)
    value = project(context, "to_v", *shared)
    # Queries do not see each other: those of all samples can share one set of keys, which is not repeated.
    query = query.reshape(key.shape[0], -1, heads, head_dim)
    h = jax.nn.dot_product_attention(query, key, value)
    return settings.dense(x.shape[-1], "to_out.0")(h.reshape(*x.shape[:2], heads * head_dim))


class Attention(nn.Module):
    """Attention of x `[B, N, C]` on context `[B, M, D]`, on x itself if that is None; norm: of queries and keys."""

    heads: int
    head_dim: int
    settings: Settings
    bias: bool = False
    norm: bool = False

    @nn.compact
    def __call__(self, x: Array, context: Array | None = None) -> Array:
        context = x if context is None else context.astype(self.settings.dtype)
        return attend(x, context, self.heads, self.head_dim, self.settings, self.bias, self.norm)


class PixelAttention(nn.Module):
    """Attention among the H * W pixels behind a group norm, with a residual connection.

    groups: of the norm; None leaves it out.
    """

    head_dim: int
    settings: Settings
    groups: int | None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        batch, height, width, channels = x.shape
        h = x if self.groups is None else self.settings.norm("group_norm", self.groups)(x)
        h = h.reshape(batch, height * width, channels)
        h = attend(h, h, channels // self.head_dim, self.head_dim, self.settings, bias=True)
        return (x + h.reshape(x.shape)) / self.settings.output_scale


class FeedForward(nn.Module):
    """W_2 gelu(W_1 x) of four times the width; gated: W_2 (a gelu(b)) with (a, b) = W_1 x (arXiv 2002.05202)."""

    settings: Settings
    gated: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        value = _Projection((8 if self.gated else 4) * x.shape[-1], self.settings, name="net.0")(x)
        if self.gated:
            value, gate = jnp.split(value, 2, axis=-1)
            value = value * nn.gelu(gate, approximate=False)
        else:
            value = nn.gelu(value, approximate=True)
        return self.settings.dense(x.shape[-1], "net.2")(value)


class _Projection(nn.Module):
    features: int
    settings: Settings

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return self.settings.dense(self.features, "proj")(x)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward, each behind a layer norm and with a residual connection.

    only_cross: the first attention looks at the text too.
    """

    heads: int
    head_dim: int
    settings: Settings
    only_cross: bool = False

    @nn.compact
    def __call__(self, x: Array, text: Array) -> Array:
        s = self.settings
        x = x + self._attention("attn1", s.layer_norm("norm1")(x), text if self.only_cross else None)
        x = x + self._attention("attn2", s.layer_norm("norm2")(x), text)
        return x + FeedForward(s, name="ff")(s.layer_norm("norm3")(x))

    def _attention(self, name: str, x: Array, context: Array | None) -> Array:
        return Attention(self.heads, self.head_dim, self.settings, name=name)(x, context)


class Transformer2D(nn.Module):
    """Transformer blocks over the pixels of x `[B, H, W, C]` with text `[B, L, D]`.

    linear: the projections around the blocks are linear layers (Stable Diffusion 2) instead of 1x1 convolutions.
    """

    heads: int
    layers: int
    settings: Settings
    linear: bool = False
    only_cross: bool = False

    @nn.compact
    def __call__(self, x: Array, text: Array) -> Array:
        batch, height, width, channels = x.shape
        s, head_dim = self.settings, channels // self.heads
        inner = self.heads * head_dim
        h = s.norm("norm", eps=1e-6)(x)
        h = s.dense(inner, "proj_in")(h) if self.linear else s.conv(inner, "proj_in", kernel=1)(h)
        h = h.reshape(batch, height * width, inner)
        for index in range(self.layers):
            name = f"transformer_blocks.{index}"
            h = TransformerBlock(self.heads, head_dim, s, self.only_cross, name=name)(h, text)
        h = h.reshape(batch, height, width, inner)
        h = s.dense(channels, "proj_out")(h) if self.linear else s.conv(channels, "proj_out", kernel=1)(h)
        return x + h
