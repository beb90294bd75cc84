"""UNet2DModel of diffusers; its fields are the keys of `config.json`.

Which configurations are accepted is checked where they are read, in `pcm_jax.pretrained.diffusers`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from pcm_jax.networks import fields
from pcm_jax.networks.diffusers import blocks
from pcm_jax.networks.diffusers.blocks import Attending, DownBlock, Kind, MidBlock, Sampler, UpBlock
from pcm_jax.networks.diffusers.conditioning import class_features, example
from pcm_jax.networks.diffusers.layers import ACTIVATIONS, GaussianFourier, Settings, TimestepEmbedding, sinusoidal
from pcm_jax.types import Array, Cond


def output(x: Array, channels: int, settings: Settings, kernel: int = 3) -> Array:
    """Norm, activation and the last convolution, which stays in float32: its rounding goes into the sampler's state."""
    x = settings.act(settings.norm("conv_norm_out")(x))
    single = dataclasses.replace(settings, dtype=jnp.float32)
    return single.conv(channels, "conv_out", kernel)(x.astype(jnp.float32))


class UNet2DModel(nn.Module):
    """Denoiser of images: DDPM's network and the one of the CelebA-HQ latent diffusion model.

    cond: what `class_features` takes, or None.
    """

    in_channels: int = 3
    out_channels: int = 3
    center_input_sample: bool = False
    time_embedding_type: Literal["positional", "fourier", "learned"] = "positional"
    time_embedding_dim: int | None = None
    freq_shift: float = 0
    flip_sin_to_cos: bool = True
    down_block_types: tuple[str, ...] = ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D")
    mid_block_type: str | None = "UNetMidBlock2D"
    up_block_types: tuple[str, ...] = ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D")
    block_out_channels: tuple[int, ...] = (224, 448, 672, 896)
    layers_per_block: int = 2
    mid_block_scale_factor: float = 1
    downsample_padding: int = 1
    downsample_type: Literal["conv", "resnet"] = "conv"
    upsample_type: Literal["conv", "resnet"] = "conv"
    act_fn: str = "silu"
    attention_head_dim: int | None = 8
    norm_num_groups: int = 32
    attn_norm_num_groups: int | None = None
    norm_eps: float = 1e-5
    resnet_time_scale_shift: Literal["default", "scale_shift"] = "default"
    add_attention: bool = True
    class_embed_type: Literal["timestep", "identity"] | None = None
    num_class_embeds: int | None = None
    num_train_timesteps: int | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, t: Array, cond: Cond = None) -> Array:
        known = {"mid_block_type": ("UNetMidBlock2D",), "act_fn": ACTIVATIONS}
        fields.check(self, zero=("downsample_padding",), free=("freq_shift",), known=known)
        channels, count = self.block_out_channels, len(self.block_out_channels)
        s = Settings(self.norm_num_groups, self.norm_eps, self.act_fn, self.resnet_time_scale_shift, dtype=self.dtype)
        silu = dataclasses.replace(s, activation="silu")
        dtype, shape = x.dtype, x.shape
        x = (2 * x - 1.0 if self.center_input_sample else x).astype(self.dtype)
        width = self.time_embedding_dim or 4 * channels[0]
        project = self._time_projection()
        time = TimestepEmbedding(width, silu, name="time_embedding")(project(t).astype(self.dtype))
        label = cond["label"] if isinstance(cond, Mapping) else cond
        features = class_features(label, self.class_embed_type, self.num_class_embeds, width, silu, project)
        time = time if features is None else time + features
        x = s.conv(channels[0], "conv_in")(x)
        skips = [x]
        for index, name in enumerate(self.down_block_types):
            kind = blocks.kind_of(name, blocks.DOWN)
            sampler = self._sampler(kind, self.downsample_type) if index < count - 1 else None
            block = DownBlock(
                channels[index],
                self.layers_per_block,
                s,
                self._attending(kind, channels[index]),
                sampler,
                self.downsample_padding,
                name=f"down_blocks.{index}",
            )
            x, states = block(x, time)
            skips += states
        if self.mid_block_type is not None:
            middle = self._attending(Kind("pixels" if self.add_attention else "none"), channels[-1])
            groups = self.attn_norm_num_groups
            if groups is None and self.resnet_time_scale_shift == "default":
                groups = self.norm_num_groups
            middle = dataclasses.replace(middle, groups=groups)
            scaled = dataclasses.replace(s, output_scale=self.mid_block_scale_factor)
            x = MidBlock(scaled, middle, name="mid_block")(x, time)
        for index, name in enumerate(self.up_block_types):
            kind, width = blocks.kind_of(name, blocks.UP), channels[count - 1 - index]
            sampler = self._sampler(kind, self.upsample_type) if index < count - 1 else None
            attending = self._attending(kind, width)
            up = UpBlock(width, self.layers_per_block + 1, s, attending, sampler, name=f"up_blocks.{index}")
            x = up(x, time, skips)
        x = output(x, self.out_channels, silu)
        if self.time_embedding_type == "fourier":
            x = x / t.astype(x.dtype).reshape(shape[0], 1, 1, 1)
        return x.astype(dtype)

    def example(self) -> tuple[Any, ...]:
        """Shapes of inputs."""
        width = self.time_embedding_dim or 4 * self.block_out_channels[0]
        levels = len(self.block_out_channels)
        return example(levels, self.in_channels, self.class_embed_type, self.num_class_embeds, width, None)

    def _sampler(self, kind: Kind, attention_type: Sampler) -> Sampler:
        """Blocks with attention have the type of the configuration, the others the one that their name says."""
        return attention_type if kind.attend == "pixels" else "resnet" if kind.resnet else "conv"

    def _attending(self, kind: Kind, channels: int) -> Attending:
        if kind.attend == "text":
            raise ValueError("UNet2DModel has no blocks with cross attention; UNet2DConditionModel has")
        return Attending(kind.attend, self.attention_head_dim or channels, self.norm_num_groups)

    def _time_projection(self) -> Any:
        width = self.block_out_channels[0]
        if self.time_embedding_type == "fourier":
            return GaussianFourier(width, log=True, name="time_proj")
        if self.time_embedding_type == "learned":
            assert self.num_train_timesteps is not None
            table = nn.Embed(self.num_train_timesteps, width, dtype=self.dtype, name="time_proj")
            return lambda t: table(jnp.round(t).astype(jnp.int32))
        return lambda t: sinusoidal(t, width, cos_first=self.flip_sin_to_cos, shift=self.freq_shift)
