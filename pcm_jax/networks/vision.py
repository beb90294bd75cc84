"""The image encoder of Diffusion Policy: a ResNet, then the mean place of every feature (spatial softmax).

Modules carry the names of their PyTorch originals ("layer.0").
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from pcm_jax.types import Array, Params

Norm = Literal["group", "batch"]


class FrozenBatchNorm(nn.Module):
    """(x - mean) / sqrt(var + eps) scale + bias with the statistics of training, which are parameters here."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (x.shape[-1],)
        scale, var = (self.param(name, nn.initializers.ones, shape) for name in ("scale", "var"))
        bias, mean = (self.param(name, nn.initializers.zeros, shape) for name in ("bias", "mean"))
        gain = scale * lax.rsqrt(var.astype(jnp.float32) + 1e-5)
        gain, shift = (each.astype(x.dtype)[None, None, None] for each in (gain, bias - mean * gain))
        return x * gain + shift


@dataclasses.dataclass(frozen=True)
class _Layers:
    """norm: group normalisation of 16 channels each, or frozen batch normalisation."""

    norm: Norm
    dtype: DTypeLike

    def conv(self, channels: int, kernel: int, stride: int, name: str) -> nn.Conv:
        pad = ((kernel // 2, kernel // 2),) * 2
        return nn.Conv(
            channels, (kernel, kernel), (stride, stride), padding=pad, use_bias=False, dtype=self.dtype, name=name
        )

    def normed(self, x: Array, name: str) -> Array:
        if self.norm == "batch":
            return FrozenBatchNorm(name=name)(x)
        groups = x.shape[-1] // 16
        norm = nn.GroupNorm(groups, epsilon=1e-5, dtype=self.dtype, use_fast_variance=False, name=name)
        found: Array = norm(x)
        return found


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a skip around them (arXiv 1512.03385, figure 2)."""

    channels: int
    stride: int
    layers: _Layers

    @nn.compact
    def __call__(self, x: Array) -> Array:
        layers = self.layers
        h = nn.relu(layers.normed(layers.conv(self.channels, 3, self.stride, "conv1")(x), "bn1"))
        h = layers.normed(layers.conv(self.channels, 3, 1, "conv2")(h), "bn2")
        if x.shape[-1] != self.channels or self.stride != 1:
            x = layers.normed(layers.conv(self.channels, 1, self.stride, "downsample.0")(x), "downsample.1")
        return nn.relu(x + h)


class SpatialSoftmax(nn.Module):
    """Where each of `keypoints` features is: sum_p softmax(features)_p (x_p, y_p), x and y in -1..1; `[N, 2 K]`.

    Reference: arXiv 1509.06113, equation 2.
    """

    keypoints: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Array) -> Array:
        batch, height, width, _ = x.shape
        x = nn.Conv(self.keypoints, (1, 1), dtype=self.dtype, name="nets")(x)

        def places(_: Array) -> Array:
            grid = np.meshgrid(np.linspace(-1.0, 1.0, width), np.linspace(-1.0, 1.0, height))
            return jnp.asarray(np.stack(grid, axis=-1).reshape(-1, 2), jnp.float32)

        grid = self.param("pos_grid", places)
        share = jax.nn.softmax(x.astype(jnp.float32).reshape(batch, -1, self.keypoints), axis=1)
        found = jnp.einsum("npk,pd->nkd", share, grid.astype(jnp.float32), precision=lax.Precision.HIGHEST)
        return found.reshape(batch, -1)


class ImageEncoder(nn.Module):
    """Features `[N, 2 keypoints]` of images `[N, H, W, C]`.

    resize: to this height and width first, bilinear with antialiasing. crop: then the middle of this size. stages:
    blocks of each of four levels, (2, 2, 2, 2) is ResNet-18. width: channels of the first level.
    """

    stages: tuple[int, ...] = (2, 2, 2, 2)
    width: int = 64
    keypoints: int = 32
    norm: Norm = "group"
    crop: tuple[int, int] | None = None
    resize: tuple[int, int] | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        layers = _Layers(self.norm, self.dtype)
        if self.resize is not None:
            x = jax.image.resize(x, (x.shape[0], *self.resize, x.shape[3]), "bilinear", antialias=True)
        if self.crop is not None:
            # Half pixels round to even, as PyTorch's CenterCrop does.
            top, left = (round((size - part) / 2) for size, part in zip(x.shape[1:3], self.crop, strict=True))
            x = x[:, top : top + self.crop[0], left : left + self.crop[1]]
        x = layers.conv(self.width, 7, 2, "backbone.0")(x.astype(self.dtype))
        x = nn.relu(layers.normed(x, "backbone.1"))
        x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for level, blocks in enumerate(self.stages):
            for index in range(blocks):
                stride = 2 if level and not index else 1
                block = BasicBlock(self.width * 2**level, stride, layers, name=f"backbone.{4 + level}.{index}")
                x = block(x)
        x = SpatialSoftmax(self.keypoints, self.dtype, name="pool")(x)
        return nn.relu(nn.Dense(2 * self.keypoints, dtype=self.dtype, name="out")(x.astype(self.dtype)))


class CameraEncoder(nn.Module):
    """Features `[N, cameras 2 keypoints]` of images `[N, H, W, C]` of every camera, one after the other.

    encoder: an unbound `ImageEncoder`. separate: each camera has its own, instead of one for all.
    """

    cameras: int
    separate: bool
    encoder: ImageEncoder

    @nn.compact
    def __call__(self, images: tuple[Array, ...]) -> Array:
        if len(images) != self.cameras:
            raise ValueError(f"this encoder has {self.cameras} cameras, got images of {len(images)}")
        if self.separate:
            named = enumerate(images)
            features = [self.encoder.clone(name=f"rgb_encoder.{index}", parent=self)(x) for index, x in named]
            return jnp.concatenate(features, axis=-1)
        found = self.encoder.clone(name="rgb_encoder", parent=self)(jnp.concatenate(images))
        return jnp.concatenate(jnp.split(found, self.cameras), axis=-1)


@dataclasses.dataclass(frozen=True)
class LinenEncoder:
    """`(params, images) -> features` of a Linen module; hashable."""

    module: nn.Module

    def __call__(self, params: Params, images: tuple[Array, ...]) -> Array:
        out: Any = self.module.apply({"params": params}, images)
        return out
