"""AutoencoderKL and VQModel of diffusers; their fields are the keys of `config.json`.

Which configurations are accepted is checked where they are read, in `pcm_jax.pretrained.diffusers`.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from pcm_jax.networks import fields
from pcm_jax.networks.diffusers import blocks
from pcm_jax.networks.diffusers.blocks import Attending, DownBlock, Kind, MidBlock, Sampler, UpBlock
from pcm_jax.networks.diffusers.layers import ACTIVATIONS, Settings
from pcm_jax.networks.diffusers.unet import output
from pcm_jax.types import Array


def _attending(kind: Kind, channels: int, settings: Settings) -> Attending:
    """Autoencoders attend with one head."""
    return Attending(kind.attend, head_dim=channels, groups=settings.groups)


class Encoder(nn.Module):
    """Images `[B, H, W, C]` to `features` channels at 1 / 2^(levels - 1) of the size."""

    features: int
    types: tuple[str, ...]
    channels: tuple[int, ...]
    layers: int
    settings: Settings
    attend: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        s, last = self.settings, len(self.channels) - 1
        x = s.conv(self.channels[0], "conv_in")(x.astype(s.dtype))
        for index, (name, channels) in enumerate(zip(self.types, self.channels, strict=True)):
            attending = _attending(blocks.kind_of(name, blocks.ENCODER), channels, s)
            sampler: Sampler = None if index == last else "conv"
            down = DownBlock(channels, self.layers, s, attending, sampler, padding=0, name=f"down_blocks.{index}")
            x, _ = down(x, None)
        middle = _attending(Kind("pixels" if self.attend else "none"), self.channels[-1], s)
        x = MidBlock(s, middle, name="mid_block")(x, None)
        return output(x, self.features, _silu(s))


class Decoder(nn.Module):
    """Latents to images of `features` channels: the encoder backwards, with one more layer a level."""

    features: int
    types: tuple[str, ...]
    channels: tuple[int, ...]
    layers: int
    settings: Settings
    attend: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        s, last = self.settings, len(self.channels) - 1
        x = s.conv(self.channels[-1], "conv_in")(x.astype(s.dtype))
        middle = _attending(Kind("pixels" if self.attend else "none"), self.channels[-1], s)
        x = MidBlock(s, middle, name="mid_block")(x, None)
        for index, (name, channels) in enumerate(zip(self.types, self.channels[::-1], strict=True)):
            attending = _attending(blocks.kind_of(name, blocks.DECODER), channels, s)
            sampler: Sampler = None if index == last else "conv"
            up = UpBlock(channels, self.layers + 1, s, attending, sampler, name=f"up_blocks.{index}")
            x = up(x, None, None)
        return output(x, self.features, _silu(s))


def _silu(settings: Settings) -> Settings:
    """The activation before the last convolution does not follow `act_fn`."""
    return Settings(settings.groups, settings.eps, dtype=settings.dtype)


class _Autoencoder(nn.Module):
    """The fields that both share."""

    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",)
    up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",)
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    act_fn: str = "silu"
    norm_num_groups: int = 32
    mid_block_add_attention: bool = True
    scaling_factor: float = 0.18215
    dtype: DTypeLike = jnp.float32

    def _check(self) -> None:
        fields.check(self, free=("shift_factor",), known={"act_fn": ACTIVATIONS})

    def _coders(self, latent_channels: int, encoded: int) -> tuple[Encoder, Decoder]:
        s = Settings(self.norm_num_groups, 1e-6, self.act_fn, dtype=self.dtype)
        shared = (self.block_out_channels, self.layers_per_block, s, self.mid_block_add_attention)
        encoder = Encoder(encoded, self.down_block_types, *shared)
        return encoder, Decoder(self.out_channels, self.up_block_types, *shared)

    def example(self) -> tuple[Any, ...]:
        """Shapes of inputs."""
        side = 2 ** len(self.block_out_channels)
        return (jax.ShapeDtypeStruct((1, side, side, self.in_channels), jnp.float32),)

    def __call__(self, x: Array) -> Array:
        """Images through both halves, which is what makes all parameters."""
        return self.decode(self.encode(x))


def _pointwise(features: int) -> nn.Conv:
    return nn.Conv(features, (1, 1))


class AutoencoderKL(_Autoencoder):
    """Stable Diffusion's autoencoder: `encode` gives the mean of a Gaussian, `moments` its logarithmic variance too."""

    latent_channels: int = 4
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    shift_factor: float | None = None

    def setup(self) -> None:
        self._check()
        self.encoder, self.decoder = self._coders(self.latent_channels, 2 * self.latent_channels)
        if self.use_quant_conv:
            self.quant_conv = _pointwise(2 * self.latent_channels)
        if self.use_post_quant_conv:
            self.post_quant_conv = _pointwise(self.latent_channels)

    def moments(self, x: Array) -> tuple[Array, Array]:
        """Mean and log-variance of the latents, the latter within -30..20."""
        h = self.encoder(x)
        h = self.quant_conv(h) if self.use_quant_conv else h
        mean, log_variance = jnp.split(h, 2, axis=-1)
        return mean.astype(x.dtype), jnp.clip(log_variance, -30.0, 20.0).astype(x.dtype)

    def encode(self, x: Array) -> Array:
        """The mean of the latents."""
        return self.moments(x)[0]

    def decode(self, z: Array) -> Array:
        """Images of latents as `encode` gives them."""
        h = self.post_quant_conv(z) if self.use_post_quant_conv else z
        return self.decoder(h).astype(z.dtype)


class VQModel(_Autoencoder):
    """Latent diffusion's autoencoder: `decode` first moves every latent vector to the nearest of a code book."""

    latent_channels: int = 3
    num_vq_embeddings: int = 256
    vq_embed_dim: int | None = None

    def setup(self) -> None:
        self._check()
        self.encoder, self.decoder = self._coders(self.latent_channels, self.latent_channels)
        width = self.vq_embed_dim or self.latent_channels
        self.quant_conv, self.post_quant_conv = _pointwise(width), _pointwise(self.latent_channels)
        self.quantize = CodeBook(self.num_vq_embeddings, width)

    def encode(self, x: Array) -> Array:
        """Latents before quantisation."""
        return self.quant_conv(self.encoder(x)).astype(x.dtype)

    def decode(self, z: Array) -> Array:
        """Images of latents as `encode` gives them, or as a diffusion model does."""
        return self.decoder(self.post_quant_conv(self.quantize(z))).astype(z.dtype)


class CodeBook(nn.Module):
    """The nearest of `size` vectors."""

    size: int
    width: int

    @nn.compact
    def __call__(self, z: Array) -> Array:
        # |z - e|^2 = |z|^2 - 2 z.e + |e|^2 in full precision: two codes can be close.
        table = nn.Embed(self.size, self.width, name="embedding")
        codes = table.embedding.astype(jnp.float32)
        product = jnp.einsum("...d,kd->...k", z.astype(jnp.float32), codes, precision=jax.lax.Precision.HIGHEST)
        nearest = jnp.argmin(jnp.sum(codes**2, -1).reshape((1,) * (z.ndim - 1) + (-1,)) - 2 * product, axis=-1)
        return codes[nearest]
