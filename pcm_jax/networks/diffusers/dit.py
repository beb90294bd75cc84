"""DiTTransformer2DModel of diffusers; its fields are the keys of `config.json`.

Which configurations are accepted is checked where they are read, in `pcm_jax.pretrained.diffusers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from pcm_jax.networks import fields
from pcm_jax.networks.diffusers.attention import Attention, FeedForward
from pcm_jax.networks.diffusers.conditioning import label_features
from pcm_jax.networks.diffusers.layers import Settings, TimestepEmbedding, sinusoidal
from pcm_jax.networks.diffusers.patches import PatchEmbed, modulated, modulation, unpatch
from pcm_jax.types import Array, Cond


class _Told(nn.Module):
    """(features of time and label `[B, width]`, six vectors `[B, 1, width]` read off them); each block has its own."""

    classes: int
    width: int
    settings: Settings

    @nn.compact
    def __call__(self, t: Array, label: Array) -> tuple[Array, list[Array]]:
        s = self.settings
        waves = sinusoidal(t, 256, cos_first=True, shift=1).astype(s.dtype)
        features = TimestepEmbedding(self.width, s, name="emb.timestep_embedder")(waves)
        features += label_features(label, self.classes + 1, self.width, s, "emb.class_embedder.embedding_table")
        return features, modulation(features, 6, self.width, s)


class DiTBlock(nn.Module):
    """Self-attention and feed-forward, each behind a norm that time and label modulate and with a gate (adaLN-Zero)."""

    heads: int
    head_dim: int
    classes: int
    bias: bool
    eps: float
    settings: Settings

    @nn.compact
    def __call__(self, x: Array, t: Array, label: Array) -> tuple[Array, Array]:
        s = self.settings
        features, vectors = _Told(self.classes, x.shape[-1], s, name="norm1")(t, label)
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = vectors
        x = x + gate * Attention(self.heads, self.head_dim, s, self.bias, name="attn1")(modulated(x, shift, scale, s))
        h = FeedForward(s, gated=False, name="ff")(modulated(x, shift_mlp, scale_mlp, s, self.eps))
        return x + gate_mlp * h, features


class DiTTransformer2DModel(nn.Module):
    """Denoiser of latents by class: DiT (arXiv 2212.09748).

    cond: labels int `[B]`, or {"label": them}; num_embeds_ada_norm (1000) is the null label of guidance. A variance
    that the network learned beside its prediction (out_channels twice in_channels) is left out.
    """

    num_attention_heads: int = 16
    attention_head_dim: int = 72
    in_channels: int = 4
    out_channels: int | None = None
    num_layers: int = 28
    attention_bias: bool = True
    sample_size: int = 32
    patch_size: int = 2
    num_embeds_ada_norm: int = 1000
    norm_eps: float = 1e-5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, t: Array, cond: Cond = None) -> Array:
        fields.check(self)
        s, dtype = Settings(dtype=self.dtype), x.dtype
        label = jnp.asarray(self._label(cond, x.shape[0]))
        width, patch = self.num_attention_heads * self.attention_head_dim, self.patch_size
        x = PatchEmbed(width, patch, self.sample_size // patch, s, name="pos_embed")(x.astype(self.dtype))
        grid = x.shape[1:3]
        x = x.reshape(x.shape[0], -1, width)
        told = []
        for index in range(self.num_layers):
            block = DiTBlock(
                self.num_attention_heads,
                self.attention_head_dim,
                self.num_embeds_ada_norm,
                self.attention_bias,
                self.norm_eps,
                s,
                name=f"transformer_blocks.{index}",
            )
            x, features = block(x, t, label)
            told.append(features)
        # The last norm is told what the first block is.
        shift, scale = jnp.split(s.dense(2 * width, "proj_out_1")(nn.silu(told[0]))[:, None], 2, axis=-1)
        x = modulated(x, shift, scale, s).reshape(x.shape[0], *grid, width)
        x = unpatch(x, self.out_channels or self.in_channels, patch, "proj_out_2", s)
        return x[..., : self.in_channels].astype(dtype)

    def _label(self, cond: Cond, batch: int) -> Any:
        label = cond.get("label") if isinstance(cond, Mapping) else cond
        if label is None or jnp.shape(label) not in ((1,), (batch,)):
            raise ValueError(
                f"this network needs class labels, integers of shape ({batch},), got "
                f"{'none' if label is None else jnp.shape(label)}; pass them as cond, {self.num_embeds_ada_norm} is no "
                "class"
            )
        return label

    def example(self) -> tuple[Any, ...]:
        """Shapes of inputs."""
        side = self.sample_size
        x = jax.ShapeDtypeStruct((1, side, side, self.in_channels), jnp.float32)
        return x, jax.ShapeDtypeStruct((1,), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
