"""Layers that the networks of diffusers share. Modules carry the names of their PyTorch parameters ("resnets.0")."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from pcm_jax.types import Array

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": nn.silu,
    "swish": nn.silu,
    "mish": lambda x: x * jnp.tanh(jax.nn.softplus(x)),
    "gelu": partial(nn.gelu, approximate=False),
    "relu": nn.relu,
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all blocks of a network have in common.

    groups, eps: of group normalisation. activation: a key of `ACTIVATIONS`. time_shift: how a residual block takes the
    time in, "default" adds it, "scale_shift" scales and shifts the second norm. skip_time_activation: the time comes
    in without an activation. output_scale: residual sums are divided by it. dtype: what the layers compute in.
    """

    groups: int = 32
    eps: float = 1e-5
    activation: str = "silu"
    time_shift: str = "default"
    skip_time_activation: bool = False
    output_scale: float = 1.0
    dtype: DTypeLike = jnp.float32

    def act(self, x: Array) -> Array:
        """The activation."""
        return ACTIVATIONS[self.activation](x)

    def norm(self, name: str, groups: int | None = None, eps: float | None = None) -> nn.GroupNorm:
        """Group normalisation over the channels."""
        return nn.GroupNorm(
            num_groups=groups or self.groups,
            epsilon=self.eps if eps is None else eps,
            dtype=self.dtype,
            # The fast form E[x^2] - E[x]^2 cancels where a channel's mean is large.
            use_fast_variance=False,
            name=name,
        )

    def layer_norm(self, name: str | None = None, eps: float = 1e-5) -> nn.LayerNorm:
        """Layer normalisation; without a name it has no weights."""
        own = name is not None
        return nn.LayerNorm(
            epsilon=eps, dtype=self.dtype, use_bias=own, use_scale=own, use_fast_variance=False, name=name
        )

    def conv(
        self, channels: int, name: str, kernel: int = 3, padding: tuple[int, int] | None = None, stride: int = 1
    ) -> nn.Conv:
        """A convolution that keeps the size at stride 1; padding: (before, after) of both axes, as PyTorch pads."""
        pad = ((kernel - 1) // 2,) * 2 if padding is None else padding
        return nn.Conv(channels, (kernel, kernel), (stride, stride), padding=(pad, pad), dtype=self.dtype, name=name)

    def dense(self, features: int, name: str, bias: bool = True) -> nn.Dense:
        """A linear layer."""
        return nn.Dense(features, use_bias=bias, dtype=self.dtype, name=name)


def sinusoidal(t: Array, dim: int, *, cos_first: bool, shift: float) -> Array:
    r"""[sin(w_j t), cos(w_j t)] (or cosines first), w_j = 10000^(-j / (dim / 2 - shift)); float32 `[B, dim]`."""
    half = dim // 2
    frequency = jnp.exp(-math.log(10_000.0) / (half - shift) * jnp.arange(half, dtype=jnp.float32))
    angle = t.astype(jnp.float32)[:, None] * frequency[None]
    parts = [jnp.cos(angle), jnp.sin(angle)] if cos_first else [jnp.sin(angle), jnp.cos(angle)]
    return jnp.pad(jnp.concatenate(parts, axis=-1), ((0, 0), (0, dim % 2)))


class GaussianFourier(nn.Module):
    """sin and cos of 2 pi w_j x, w_j fixed random numbers that are stored with the weights."""

    features: int
    log: bool
    cos_first: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        weight = self.param("weight", nn.initializers.normal(16.0), (self.features,))
        x = x.astype(jnp.float32)
        angle = 2 * jnp.pi * (jnp.log(x) if self.log else x)[:, None] * weight.astype(jnp.float32)[None]
        parts = [jnp.cos(angle), jnp.sin(angle)] if self.cos_first else [jnp.sin(angle), jnp.cos(angle)]
        return jnp.concatenate(parts, axis=-1)


class TimestepEmbedding(nn.Module):
    """Two linear layers with an activation between them, and one after them if `post_activation`."""

    features: int
    settings: Settings
    post_activation: str | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = self.settings.act(self.settings.dense(self.features, "linear_1")(x))
        x = self.settings.dense(self.features, "linear_2")(x)
        return ACTIVATIONS[self.post_activation](x) if self.post_activation else x


def halve(x: Array) -> Array:
    """Means of 2x2 squares; an odd last row or column is left out."""
    return nn.avg_pool(x, (2, 2), (2, 2))


def double(x: Array) -> Array:
    """Every pixel four times."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


class ResnetBlock(nn.Module):
    """h = conv2(act(norm2(conv1(act(norm1 x)) + time))); returns (x + h) / output_scale, x through a 1x1 if need be."""

    channels: int
    settings: Settings
    resample: Literal["up", "down"] | None = None

    @nn.compact
    def __call__(self, x: Array, time: Array | None) -> Array:
        s = self.settings
        h = s.act(s.norm("norm1")(x))
        if self.resample:
            resize = double if self.resample == "up" else halve
            x, h = resize(x), resize(h)
        h = s.conv(self.channels, "conv1")(h)
        scale = None
        if time is not None:
            time = time if s.skip_time_activation else s.act(time)
            twice = 2 if s.time_shift == "scale_shift" else 1
            time = s.dense(twice * self.channels, "time_emb_proj")(time)[:, None, None]
            if twice == 2:
                scale, time = jnp.split(time, 2, axis=-1)
        if time is not None and scale is None:
            h = h + time
        h = s.norm("norm2")(h)
        if scale is not None:
            h = h * (1 + scale) + time
        h = s.conv(self.channels, "conv2")(s.act(h))
        if x.shape[-1] != self.channels:
            x = s.conv(self.channels, "conv_shortcut", kernel=1)(x)
        return (x + h) / s.output_scale


class Downsample(nn.Module):
    """A 3x3 convolution of stride 2; padding 0 pads one row and column at the end alone, as the autoencoders do."""

    channels: int
    settings: Settings
    padding: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        pad = (self.padding, self.padding) if self.padding else (0, 1)
        return self.settings.conv(self.channels, "conv", padding=pad, stride=2)(x)


class Upsample(nn.Module):
    """Nearest neighbour to `size`, twice the input's or one less, then a 3x3 convolution."""

    channels: int
    settings: Settings

    @nn.compact
    def __call__(self, x: Array, size: tuple[int, int] | None = None) -> Array:
        return self.settings.conv(self.channels, "conv")(crop(double(x), size))


def crop(x: Array, size: tuple[int, int] | None) -> Array:
    """The first `size` rows and columns; ValueError where x has fewer."""
    if size is None or x.shape[1:3] == size:
        return x
    if x.shape[1] < size[0] or x.shape[2] < size[1]:
        raise ValueError(
            f"an image of {x.shape[1]}x{x.shape[2]} cannot be widened to {size[0]}x{size[1]}: this network needs sides "
            "that are multiples of 2^(levels - 1); pad the input"
        )
    return x[:, : size[0], : size[1]]
