"""SD3Transformer2DModel of diffusers; its fields are the keys of `config.json`.

Which configurations are accepted is checked where they are read, in `pcm_jax.pretrained.diffusers`.
"""

from __future__ import annotations

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from pcm_jax.networks import fields
from pcm_jax.networks.diffusers.attention import Attention, FeedForward, project
from pcm_jax.networks.diffusers.conditioning import part
from pcm_jax.networks.diffusers.layers import Settings, TimestepEmbedding, sinusoidal
from pcm_jax.networks.diffusers.patches import Modulation, PatchEmbed, modulated, unpatch
from pcm_jax.types import Array, Cond

_COND = "{'text': [B, L, D], 'pooled': [B, P]}"


class JointAttention(nn.Module):
    """Attention among pixels x `[B, N, C]` and text `[B, L, C]` together, each with layers of its own.

    norm: of queries and keys. last: nobody reads the text's result, so it has no output layer and is None.
    """

    heads: int
    head_dim: int
    settings: Settings
    norm: bool
    last: bool

    @nn.compact
    def __call__(self, x: Array, text: Array) -> tuple[Array, Array | None]:
        s, shared = self.settings, (self.heads, self.head_dim, self.settings, True)
        layers = {"q": ("to_q", "add_q_proj"), "k": ("to_k", "add_k_proj"), "v": ("to_v", "add_v_proj")}
        found = []
        for letter, names in layers.items():
            norms = [f"{name}{letter}" if self.norm and letter != "v" else None for name in ("norm_", "norm_added_")]
            both = [project(x, names[0], *shared, norms[0]), project(text, names[1], *shared, norms[1])]
            found.append(jnp.concatenate(both, axis=1))
        h = jax.nn.dot_product_attention(*found)
        h = h.reshape(*h.shape[:2], -1)
        own, other = h[:, : x.shape[1]], h[:, x.shape[1] :]
        return s.dense(x.shape[-1], "to_out.0")(own), None if self.last else s.dense(x.shape[-1], "to_add_out")(other)


class JointBlock(nn.Module):
    """Joint attention and feed-forward of pixels and text, each behind a modulated norm and with a gate.

    dual: the pixels attend among themselves too (SD3.5 medium). last: the text ends here.
    """

    heads: int
    head_dim: int
    settings: Settings
    norm: bool
    dual: bool
    last: bool

    @nn.compact
    def __call__(self, x: Array, text: Array, features: Array) -> tuple[Array, Array | None]:
        s, width = self.settings, x.shape[-1]
        told = Modulation(9 if self.dual else 6, width, s, name="norm1")(features)
        told_text = Modulation(2 if self.last else 6, width, s, name="norm1_context")(features)
        # diffusers' norm without a gate has its scale first.
        shift, scale = told_text[1::-1] if self.last else told_text[:2]
        seen, seen_text = modulated(x, told[0], told[1], s), modulated(text, shift, scale, s)
        attention = JointAttention(self.heads, self.head_dim, s, self.norm, self.last, name="attn")
        attended, attended_text = attention(seen, seen_text)
        alone = modulated(x, told[6], told[7], s) if self.dual else None
        x = x + told[2] * attended
        if alone is not None:
            x = x + told[8] * Attention(self.heads, self.head_dim, s, True, self.norm, name="attn2")(alone)
        x = self._feed_forward("ff", x, told[3:6])
        if attended_text is None:
            return x, None
        return x, self._feed_forward("ff_context", text + told_text[2] * attended_text, told_text[3:])

    def _feed_forward(self, name: str, x: Array, told: list[Array]) -> Array:
        shift, scale, gate = told
        return x + gate * FeedForward(self.settings, gated=False, name=name)(modulated(x, shift, scale, self.settings))


class SD3Transformer2DModel(nn.Module):
    """Velocity of latents under a text: the MMDiT of Stable Diffusion 3 and 3.5 (arXiv 2403.03206).

    cond: {"text": `[B, L, D]`, "pooled": `[B, P]`}, the sequence and the pooled embedding of its text encoders. It
    predicts noise minus data (prediction "velocity"); its time t is 1000 sigma.
    """

    sample_size: int = 128
    patch_size: int = 2
    in_channels: int = 16
    num_layers: int = 18
    attention_head_dim: int = 64
    num_attention_heads: int = 18
    joint_attention_dim: int = 4096
    caption_projection_dim: int = 1152
    pooled_projection_dim: int = 2048
    out_channels: int | None = 16
    pos_embed_max_size: int = 96
    dual_attention_layers: tuple[int, ...] = ()
    qk_norm: Literal["rms_norm"] | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, t: Array, cond: Cond = None) -> Array:
        fields.check(self, zero=("dual_attention_layers",))
        s, dtype, batch = Settings(dtype=self.dtype), x.dtype, x.shape[0]
        text = part(cond, "text", batch, self.joint_attention_dim, _COND)
        pooled = part(cond, "pooled", batch, self.pooled_projection_dim, _COND)
        width, patch = self.num_attention_heads * self.attention_head_dim, self.patch_size
        embed = PatchEmbed(width, patch, self.sample_size // patch, s, self.pos_embed_max_size, name="pos_embed")
        x = embed(x.astype(self.dtype))
        grid = x.shape[1:3]
        x = x.reshape(batch, -1, width)
        waves = sinusoidal(t, 256, cos_first=True, shift=0)
        features = TimestepEmbedding(width, s, name="time_text_embed.timestep_embedder")(waves.astype(self.dtype))
        features += TimestepEmbedding(width, s, name="time_text_embed.text_embedder")(pooled.astype(self.dtype))
        seen: Any = s.dense(self.caption_projection_dim, "context_embedder")(text)
        for index in range(self.num_layers):
            last = index == self.num_layers - 1
            block = JointBlock(
                self.num_attention_heads,
                self.attention_head_dim,
                s,
                self.qk_norm is not None,
                index in self.dual_attention_layers,
                last,
                name=f"transformer_blocks.{index}",
            )
            x, seen = block(x, seen, features)
        scale, shift = Modulation(2, width, s, name="norm_out")(features)
        x = modulated(x, shift, scale, s).reshape(batch, *grid, width)
        return unpatch(x, self.out_channels or self.in_channels, patch, "proj_out", s).astype(dtype)

    def example(self) -> tuple[Any, ...]:
        """Shapes of inputs."""
        shapes = ((1, self.patch_size, self.patch_size, self.in_channels), (1,))
        widths = {"text": (1, 1, self.joint_attention_dim), "pooled": (1, self.pooled_projection_dim)}
        cond = {key: jax.ShapeDtypeStruct(shape, jnp.float32) for key, shape in widths.items()}
        return *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes), cond
