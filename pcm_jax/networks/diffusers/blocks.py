"""One class for all down blocks of diffusers, one for all up blocks, one for all middle blocks, and their names."""

from __future__ import annotations

import dataclasses
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from pcm_jax.networks.diffusers.attention import PixelAttention, Transformer2D
from pcm_jax.networks.diffusers.layers import Downsample, ResnetBlock, Settings, Upsample, crop
from pcm_jax.types import Array

Attend = Literal["none", "pixels", "text"]
Sampler = Literal["conv", "resnet"] | None
"""What changes the size at the end of a block."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """attend: to what each layer of the block attends. resnet: it changes the size with a residual block."""

    attend: Attend = "none"
    resnet: bool = False


DOWN: dict[str, Kind] = {
    "DownBlock2D": Kind(),
    "ResnetDownsampleBlock2D": Kind(resnet=True),
    "AttnDownBlock2D": Kind("pixels"),
    "CrossAttnDownBlock2D": Kind("text"),
}
UP: dict[str, Kind] = {
    "UpBlock2D": Kind(),
    "ResnetUpsampleBlock2D": Kind(resnet=True),
    "AttnUpBlock2D": Kind("pixels"),
    "CrossAttnUpBlock2D": Kind("text"),
}
ENCODER: dict[str, Kind] = {"DownEncoderBlock2D": Kind(), "AttnDownEncoderBlock2D": Kind("pixels")}
DECODER: dict[str, Kind] = {"UpDecoderBlock2D": Kind(), "AttnUpDecoderBlock2D": Kind("pixels")}


def kind_of(name: str, known: dict[str, Kind]) -> Kind:
    """The block called `name`; a ValueError that lists the known ones otherwise."""
    plain = name.removeprefix("UNetRes")  # how configurations of 2022 spell them
    if plain not in known:
        raise ValueError(f"block {name!r} is not supported; supported in this place: {', '.join(known)}")
    return known[plain]


@dataclasses.dataclass(frozen=True)
class Attending:
    """How the layers of a block attend.

    head_dim, groups: of attention over pixels. heads, depths (transformer blocks of each layer), linear, only_cross: of
    attention to the text.
    """

    attend: Attend = "none"
    head_dim: int = 8
    groups: int | None = 32
    heads: int = 8
    depths: tuple[int, ...] = ()
    linear: bool = False
    only_cross: bool = False

    def __call__(self, x: Array, text: Array | None, settings: Settings, index: int) -> Array:
        """x after the attention called "attentions.<index>" of the block that this is called in."""
        name = f"attentions.{index}"
        if self.attend == "pixels":
            return PixelAttention(self.head_dim, settings, self.groups, name=name)(x)
        if self.attend == "text":
            assert text is not None
            transformer = Transformer2D(
                self.heads, self.depths[index], settings, self.linear, self.only_cross, name=name
            )
            return transformer(x, text)
        return x


class DownBlock(nn.Module):
    """`layers` residual blocks, then half the size if `sampler`; returns (x, [x after every step])."""

    channels: int
    layers: int
    settings: Settings
    attending: Attending
    sampler: Sampler
    padding: int = 1

    @nn.compact
    def __call__(self, x: Array, time: Array | None, text: Array | None = None) -> tuple[Array, list[Array]]:
        s, states = self.settings, []
        for index in range(self.layers):
            x = ResnetBlock(self.channels, s, name=f"resnets.{index}")(x, time)
            x = self.attending(x, text, s, index)
            states.append(x)
        if self.sampler == "conv":
            x = Downsample(self.channels, s, self.padding, name="downsamplers.0")(x)
        elif self.sampler == "resnet":
            x = ResnetBlock(self.channels, s, "down", name="downsamplers.0")(x, time)
        return x, states + ([x] if self.sampler else [])


class UpBlock(nn.Module):
    """`layers` residual blocks on x beside the last of `skips`, then the size of the next skip if `sampler`.

    skips None: x alone, and twice the size (decoders). The skips that were used are taken off the list.
    """

    channels: int
    layers: int
    settings: Settings
    attending: Attending
    sampler: Sampler

    @nn.compact
    def __call__(self, x: Array, time: Array | None, skips: list[Array] | None, text: Array | None = None) -> Array:
        s = self.settings
        for index in range(self.layers):
            if skips is not None:
                x = jnp.concatenate([x, skips.pop()], axis=-1)
            x = ResnetBlock(self.channels, s, name=f"resnets.{index}")(x, time)
            x = self.attending(x, text, s, index)
        size = (skips[-1].shape[1], skips[-1].shape[2]) if skips else None
        if self.sampler == "conv":
            x = Upsample(self.channels, s, name="upsamplers.0")(x, size)
        elif self.sampler == "resnet":
            x = crop(ResnetBlock(self.channels, s, "up", name="upsamplers.0")(x, time), size)
        return x


class MidBlock(nn.Module):
    """A residual block, and `layers` times an attention and another residual block."""

    settings: Settings
    attending: Attending
    layers: int = 1

    @nn.compact
    def __call__(self, x: Array, time: Array | None, text: Array | None = None) -> Array:
        s, channels = self.settings, x.shape[-1]
        x = ResnetBlock(channels, s, name="resnets.0")(x, time)
        for index in range(self.layers):
            x = self.attending(x, text, s, index)
            x = ResnetBlock(channels, s, name=f"resnets.{index + 1}")(x, time)
        return x
