"""The denoiser of Diffusion Policy: a UNet over the steps of an action chunk, conditioned on observations."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from pcm_jax import checks
from pcm_jax.networks import fields
from pcm_jax.networks.embeddings import observations_of, sinusoidal
from pcm_jax.types import Array, Cond


def mish(x: Array) -> Array:
    """x tanh(softplus(x)) with one exponential (arXiv 1908.08681)."""
    e = jnp.exp(jnp.minimum(x, 20.0))  # beyond, the quotient is 1 in float32
    n = e * (e + 2.0)
    return x * (n / (n + 2.0))


def short_conv(x: Array, kernel: Array, strides: Sequence[int], padding: Any, **_: Any) -> Array:
    """`lax.conv_general_dilated` on a handful of steps as one matrix product: XLA's own is 16 times slower on CPUs.

    Args:
        x: `[B, L, in]`. kernel: `[taps, in, out]`. padding: "SAME" or ((before, after),). The rest is Flax's, unused.
    """
    taps, (stride,) = kernel.shape[0], strides
    if padding == "SAME":
        whole = max((-(-x.shape[1] // stride) - 1) * stride + taps - x.shape[1], 0)
        padding = ((whole // 2, whole - whole // 2),)
    x = jnp.pad(x, ((0, 0), tuple(padding[0]), (0, 0)))
    reach = x.shape[1] - taps + 1
    windows = jnp.concatenate([x[:, tap : tap + reach : stride] for tap in range(taps)], axis=-1)
    return windows @ kernel.reshape(-1, kernel.shape[-1])


_Conv = functools.partial(nn.Conv, conv_general_dilated=short_conv)


class ConvBlock(nn.Module):
    """mish(norm(conv(x)))."""

    features: int
    kernel_size: int
    groups: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = _Conv(self.features, (self.kernel_size,), dtype=self.dtype, name="conv")(x)
        return mish(nn.GroupNorm(self.groups, epsilon=1e-5, dtype=self.dtype, name="norm")(x))


class ConditionalResidualBlock(nn.Module):
    """Two convolutions with FiLM between them, read off the conditioning, and a skip around both."""

    features: int
    kernel_size: int
    groups: int
    scale: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, cond: Array) -> Array:
        shared = (self.features, self.kernel_size, self.groups, self.dtype)
        h = ConvBlock(*shared, name="block_0")(x)
        film = nn.Dense((1 + self.scale) * self.features, dtype=self.dtype, name="film")(mish(cond))[:, None]
        h = film[..., : self.features] * h + film[..., self.features :] if self.scale else h + film
        h = ConvBlock(*shared, name="block_1")(h)
        if x.shape[-1] != self.features:
            x = _Conv(self.features, (1,), dtype=self.dtype, name="skip")(x)
        return h + x


class ConditionalUNet1D(nn.Module):
    """prediction `[B, H, A]` of noisy actions x `[B, H, A]` at network time t `[B]`, given observations.

    cond: the observation history, float `[B, ..]`, flattened; None for an unconditional network.
    channels: of each level; all but the last halve H, so H must be a multiple of 2^(len(channels) - 1).
    embed: features of the time embedding. kernel_size, groups: of every convolution and its group norm; out_groups: of
        the last one, None for as many. film_scale: whether the conditioning also scales.
    dtype: what the layers compute in; parameters are float32 and the output has x's dtype.

    Reference: Diffusion Policy (arXiv 2303.04137), its `ConditionalUnet1D`; film_scale is its `cond_predict_scale`.
    """

    channels: tuple[int, ...] = (256, 512, 1024)
    embed: int = 256
    kernel_size: int = 5
    groups: int = 8
    out_groups: int | None = None
    film_scale: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, t: Array, cond: Cond = None) -> Array:
        checks.channels(self.channels)
        for name in ("embed", "kernel_size", "groups"):
            checks.whole(name, getattr(self, name))
        fields.check(self)
        levels = len(self.channels)
        factor = 2 ** (levels - 1)
        if x.ndim != 3 or x.shape[1] % factor:
            raise ValueError(
                f"ConditionalUNet1D of {levels} levels takes [B, H, A] with H a multiple of {factor}, got {x.shape}; "
                "choose another horizon or fewer channels"
            )
        block = functools.partial(
            ConditionalResidualBlock,
            kernel_size=self.kernel_size,
            groups=self.groups,
            scale=self.film_scale,
            dtype=self.dtype,
        )
        features = sinusoidal(t, self.embed, spacing="closed").astype(self.dtype)
        features = nn.Dense(4 * self.embed, dtype=self.dtype, name="time_in")(features)
        features = nn.Dense(self.embed, dtype=self.dtype, name="time_out")(mish(features))
        if cond is not None:
            features = jnp.concatenate([features, observations_of(cond, x.shape[0]).astype(self.dtype)], axis=-1)
        h, skips = x.astype(self.dtype), []
        for level, width in enumerate(self.channels):
            for index in range(2):
                h = block(width, name=f"down_{level}_{index}")(h, features)
            skips.append(h)
            if level + 1 < levels:
                down = _Conv(width, (3,), strides=2, padding=1, dtype=self.dtype, name=f"downsample_{level}")
                h = down(h)
        for index in range(2):
            h = block(self.channels[-1], name=f"middle_{index}")(h, features)
        for level in range(levels - 1, 0, -1):
            width = self.channels[level - 1]
            h = jnp.concatenate([h, skips[level]], axis=-1)
            for index in range(2):
                h = block(width, name=f"up_{level}_{index}")(h, features)
            h = nn.ConvTranspose(width, (4,), strides=(2,), dtype=self.dtype, name=f"upsample_{level}")(h)
        h = ConvBlock(self.channels[0], self.kernel_size, self.out_groups or self.groups, self.dtype, name="block_out")(
            h
        )
        # The last layer stays in float32: its rounding goes straight into the sampler's state.
        return _Conv(x.shape[-1], (1,), name="out")(h.astype(jnp.float32)).astype(x.dtype)
