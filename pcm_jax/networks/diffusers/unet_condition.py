"""UNet2DConditionModel of diffusers; its fields are the keys of `config.json`.

Which configurations are accepted is checked where they are read, in `pcm_jax.pretrained.diffusers`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from pcm_jax.networks import fields
from pcm_jax.networks.diffusers import blocks
from pcm_jax.networks.diffusers.blocks import Attending, DownBlock, Kind, MidBlock, UpBlock
from pcm_jax.networks.diffusers.conditioning import class_features, example, text_and_sizes
from pcm_jax.networks.diffusers.layers import ACTIVATIONS, GaussianFourier, Settings, TimestepEmbedding, sinusoidal
from pcm_jax.networks.diffusers.unet import output
from pcm_jax.types import Array, Cond

PerLevel = Any
"""One value for all levels, or a tuple with one for each."""


def level(value: PerLevel, index: int) -> Any:
    """The value of one level."""
    return value[index] if isinstance(value, tuple) else value


class UNet2DConditionModel(nn.Module):
    """Denoiser of latents under a text: Stable Diffusion 1.x, 2.x and XL.

    cond: the text's embedding `[B, L, D]`, or {"text": that, "label": what `class_features` takes}. With
    addition_embed_type "text_time" (SDXL, arXiv 2307.01952) {"text": .., "pooled": `[B, P]`, "time_ids": `[B, n]`}: the
    pooled text, and sizes and crops in pixels (original height, width, top, left, target height, width).
    """

    in_channels: int = 4
    out_channels: int = 4
    center_input_sample: bool = False
    flip_sin_to_cos: bool = True
    freq_shift: float = 0
    down_block_types: tuple[str, ...] = (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D")
    mid_block_type: Literal["UNetMidBlock2DCrossAttn", "UNetMidBlock2D"] | None = "UNetMidBlock2DCrossAttn"
    up_block_types: tuple[str, ...] = ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3)
    only_cross_attention: PerLevel = False
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: PerLevel = 2
    downsample_padding: int = 1
    mid_block_scale_factor: float = 1
    act_fn: str = "silu"
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    cross_attention_dim: PerLevel = 1280
    transformer_layers_per_block: PerLevel = 1
    reverse_transformer_layers_per_block: tuple[Any, ...] | None = None
    encoder_hid_dim: int | None = None
    encoder_hid_dim_type: Literal["text_proj"] | None = None
    attention_head_dim: PerLevel = 8
    use_linear_projection: bool = False
    class_embed_type: Literal["timestep", "identity", "projection", "simple_projection"] | None = None
    num_class_embeds: int | None = None
    projection_class_embeddings_input_dim: int | None = None
    class_embeddings_concat: bool = False
    addition_embed_type: Literal["text_time"] | None = None
    addition_time_embed_dim: int | None = None
    resnet_time_scale_shift: Literal["default", "scale_shift"] = "default"
    resnet_skip_time_act: bool = False
    resnet_out_scale_factor: float = 1.0
    time_embedding_type: Literal["positional", "fourier"] = "positional"
    time_embedding_dim: int | None = None
    time_embedding_act_fn: str | None = None
    timestep_post_act: str | None = None
    conv_in_kernel: int = 3
    conv_out_kernel: int = 3
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, t: Array, cond: Cond = None) -> Array:
        known = dict.fromkeys(("act_fn", "time_embedding_act_fn", "timestep_post_act"), ACTIVATIONS)
        flags = ("only_cross_attention",)
        fields.check(self, zero=("downsample_padding",), free=("freq_shift",), flags=flags, known=known)
        channels, count = self.block_out_channels, len(self.block_out_channels)
        s = self._settings()
        dtype = x.dtype
        x = (2 * x - 1.0 if self.center_input_sample else x).astype(self.dtype)
        text, label = (cond["text"], cond.get("label")) if isinstance(cond, Mapping) else (cond, None)
        time = self._time(t, label, cond, s)
        text = self._text(text, x.shape[0])
        x = s.conv(channels[0], "conv_in", self.conv_in_kernel)(x)
        skips = [x]
        for index, name in enumerate(self.down_block_types):
            kind = blocks.kind_of(name, blocks.DOWN)
            block = DownBlock(
                channels[index],
                level(self.layers_per_block, index),
                self._of_block(s, kind),
                self._attending(kind, index, level(self.layers_per_block, index), self._depth(index)),
                None if index == count - 1 else "resnet" if kind.resnet else "conv",
                self.downsample_padding,
                name=f"down_blocks.{index}",
            )
            x, states = block(x, time, text)
            skips += states
        x = self._middle(x, time, text, s)
        for step, name in enumerate(self.up_block_types):
            kind, index = blocks.kind_of(name, blocks.UP), count - 1 - step
            number = level(self.layers_per_block, index) + 1
            up = UpBlock(
                channels[index],
                number,
                self._of_block(s, kind),
                self._attending(kind, index, number, self._depth(index, step)),
                None if index == 0 else "resnet" if kind.resnet else "conv",
                name=f"up_blocks.{step}",
            )
            x = up(x, time, skips, text)
        return output(x, self.out_channels, s, self.conv_out_kernel).astype(dtype)

    def example(self) -> tuple[Any, ...]:
        """Shapes of inputs."""
        told = (self.class_embed_type, self.num_class_embeds, self._width, self.projection_class_embeddings_input_dim)
        x, t, label = example(len(self.block_out_channels), self.in_channels, *told)
        shapes: dict[str, tuple[int, ...]] = {"text": (1, 1, self._text_width)}
        if self.addition_embed_type == "text_time":
            assert self.projection_class_embeddings_input_dim and self.addition_time_embed_dim
            # Pooled text and any number of sizes fill the layer's width together.
            shapes["time_ids"] = (1, 1)
            shapes["pooled"] = (1, self.projection_class_embeddings_input_dim - self.addition_time_embed_dim)
        cond: dict[str, Any] = {key: jax.ShapeDtypeStruct(shape, jnp.float32) for key, shape in shapes.items()}
        return x, t, cond if label is None else cond | {"label": label}

    @property
    def _width(self) -> int:
        """Of the time's features."""
        factor = 2 if self.time_embedding_type == "fourier" else 4
        return self.time_embedding_dim or factor * self.block_out_channels[0]

    @property
    def _text_width(self) -> int:
        size = self.encoder_hid_dim or self.cross_attention_dim
        found: int = size[0] if isinstance(size, tuple) else size
        return found

    def _settings(self) -> Settings:
        shift = self.resnet_time_scale_shift
        return Settings(self.norm_num_groups, self.norm_eps, self.act_fn, shift, dtype=self.dtype)

    def _of_block(self, settings: Settings, kind: Kind) -> Settings:
        """Two options act in the blocks that change the size with a residual block alone."""
        if not kind.resnet:
            return settings
        skip, scale = self.resnet_skip_time_act, self.resnet_out_scale_factor
        return dataclasses.replace(settings, skip_time_activation=skip, output_scale=scale)

    def _depth(self, index: int, step: int | None = None) -> Any:
        """Transformer blocks of a level, one number or one for each layer; step: of the way up, which may differ."""
        own = self.reverse_transformer_layers_per_block
        return level(self.transformer_layers_per_block, index) if own is None or step is None else own[step]

    def _attending(self, kind: Kind, index: int, layers: int, depth: Any) -> Attending:
        """`attention_head_dim` counts heads where a block attends to text, a misnomer that diffusers keeps."""
        heads = level(self.attention_head_dim, index)
        return Attending(
            kind.attend,
            head_dim=heads,
            groups=self.norm_num_groups,
            heads=heads,
            depths=depth if isinstance(depth, tuple) else (depth,) * layers,
            linear=self.use_linear_projection,
            only_cross=level(self.only_cross_attention, index),
        )

    def _middle(self, x: Array, time: Array, text: Array, settings: Settings) -> Array:
        if self.mid_block_type is None:
            return x
        cross = self.mid_block_type == "UNetMidBlock2DCrossAttn"
        attending = self._attending(Kind("text"), -1, 1, self._depth(-1))
        attending = dataclasses.replace(attending, only_cross=False)
        settings = dataclasses.replace(settings, output_scale=self.mid_block_scale_factor)
        # Without attention to the text diffusers leaves out the second residual block too.
        return MidBlock(settings, attending, layers=int(cross), name="mid_block")(x, time, text)

    def _time(self, t: Array, label: Array | None, cond: Cond, settings: Settings) -> Array:
        width = self._width
        project: Callable[[Array], Array]
        if self.time_embedding_type == "fourier":
            project = GaussianFourier(width // 2, log=False, cos_first=self.flip_sin_to_cos, name="time_proj")
        else:

            def project(t: Array) -> Array:
                channels = self.block_out_channels[0]
                return sinusoidal(t, channels, cos_first=self.flip_sin_to_cos, shift=self.freq_shift)

        embed = TimestepEmbedding(width, settings, self.timestep_post_act, name="time_embedding")
        time = embed(project(t).astype(self.dtype))
        features = class_features(label, self.class_embed_type, self.num_class_embeds, width, settings, project)
        if features is not None:
            features = jnp.broadcast_to(features, time.shape) if self.class_embeddings_concat else features
            time = jnp.concatenate([time, features], -1) if self.class_embeddings_concat else time + features
        if self.addition_embed_type == "text_time":
            silu = dataclasses.replace(settings, activation="silu")
            embed = TimestepEmbedding(width, silu, name="add_embedding")
            assert self.addition_time_embed_dim and self.projection_class_embeddings_input_dim
            waves = self.addition_time_embed_dim, self.flip_sin_to_cos, self.freq_shift
            added = text_and_sizes(cond, t.shape[0], self.projection_class_embeddings_input_dim, *waves)
            time = time + embed(added.astype(self.dtype))
        return ACTIVATIONS[self.time_embedding_act_fn](time) if self.time_embedding_act_fn else time

    def _text(self, text: Array | None, batch: int) -> Array:
        size = self._text_width
        if text is None or text.ndim != 3 or text.shape[0] not in (1, batch) or text.shape[2] != size:
            found = "none" if text is None else f"shape {tuple(text.shape)}"
            raise ValueError(
                f"this network needs the text's embedding, shape ({batch}, tokens, {size}), got {found}; pass it as "
                "cond or cond['text'], for example from pretrained.text_embeddings"
            )
        if self.encoder_hid_dim is None:
            return text
        return nn.Dense(self.cross_attention_dim, dtype=self.dtype, name="encoder_hid_proj")(text)
