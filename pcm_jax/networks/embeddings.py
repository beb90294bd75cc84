"""What a denoiser is told besides x: the network time and the class."""

from __future__ import annotations

import math
from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from pcm_jax import checks
from pcm_jax.types import Array, Cond


def sinusoidal(t: Array, dim: int, max_period: float = 10_000.0, *, spacing: str = "open") -> Array:
    r"""[cos(w_j t), sin(w_j t)], w_j = max_period^(-j / (dim / 2)), j = 0..dim/2 - 1.

    Args:
        t: network time, float `[B]`. Always embedded in float32: bfloat16 cannot tell t = 513 from t = 514.
        dim: even number of features.
        max_period: of the slowest wave, times 2 pi.
        spacing: "open" as above; "closed" is DDPM's own and Diffusion Policy's, whose last wave has max_period and
            whose sines come first: [sin, cos], w_j = max_period^(-j / (dim / 2 - 1)).

    Returns:
        float32 `[B, dim]`.

    Reference: arXiv 1706.03762, section 3.5.
    """
    if checks.whole("the time embedding's number of features", dim, 2) % 2:
        raise ValueError(f"the time embedding needs an even number of features, got {dim}")
    half = dim // 2
    closed = spacing == "closed"
    frequency = jnp.exp(-math.log(max_period) / (half - closed) * jnp.arange(half, dtype=jnp.float32))
    angle = t.astype(jnp.float32)[:, None] * frequency[None]
    waves = [jnp.cos(angle), jnp.sin(angle)]
    return jnp.concatenate(waves[::-1] if closed else waves, axis=-1)


def observations_of(cond: Cond, batch: int) -> Array:
    """float `[B, n]` from cond `[B, ..]`, or `[1, ..]` for all; a mapping is read at "observation"."""
    if isinstance(cond, Mapping):
        if "observation" not in cond:
            raise ValueError(
                f"cond is a mapping without the key 'observation' (it has {sorted(cond)}); add it or pass the array"
            )
        cond = cond["observation"]
    cond = jnp.asarray(cond)
    if cond.ndim < 2 or cond.shape[0] not in (1, batch) or not jnp.issubdtype(cond.dtype, jnp.floating):
        raise ValueError(f"observations must be floats of shape ({batch}, ..), got {cond.dtype} of {cond.shape}")
    cond = cond.reshape(cond.shape[0], -1)
    return jnp.broadcast_to(cond, (batch, cond.shape[1]))


def labels_of(cond: Cond, batch: int, null: int) -> Array:
    """int32 `[B]` from cond `[B]`, or `[1]` for all: None is the null class, a mapping is read at "label"."""
    if isinstance(cond, Mapping):
        if "label" not in cond:
            raise ValueError(f"cond is a mapping without the key 'label' (it has {sorted(cond)}); add it or pass None")
        cond = cond["label"]
    if cond is None:
        return jnp.full((batch,), null, jnp.int32)
    cond = jnp.asarray(cond)
    if cond.shape not in ((1,), (batch,)) or not jnp.issubdtype(cond.dtype, jnp.integer):
        raise ValueError(f"labels must be integers of shape ({batch},), got {cond.dtype} of {cond.shape}")
    return jnp.broadcast_to(cond.astype(jnp.int32), (batch,))


class ConditionEmbedding(nn.Module):
    """Features `[B, width]` of the network time and the class or the observations, the input of every FiLM layer.

    num_classes: labels are 0..num_classes-1 and num_classes is the null class of classifier-free guidance
        (arXiv 2207.12598); 0 makes an unconditional network.
    time_scale: multiplies t first. 1 suits t in 0..1000; EDM's t = ln(sigma) / 4 wants about 1000.
    observations: cond is a float array `[B, ..]`, read by two layers.
    """

    width: int
    num_classes: int = 0
    time_scale: float = 1.0
    observations: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, t: Array, cond: Cond) -> Array:
        checks.whole("width", self.width, 2)
        checks.whole("num_classes", self.num_classes, 0, hint="0 is an unconditional network")
        features = sinusoidal(t.astype(jnp.float32) * self.time_scale, 2 * (self.width // 2)).astype(self.dtype)
        features = nn.Dense(self.width, dtype=self.dtype, name="time_in")(features)
        features = nn.Dense(self.width, dtype=self.dtype, name="time_out")(nn.silu(features))
        if self.num_classes:
            label = labels_of(cond, t.shape[0], self.num_classes)
            # An out-of-range label would read another row silently (gathers clamp): it becomes NaN instead.
            table = nn.Embed(self.num_classes + 1, self.width, dtype=self.dtype, name="label")
            known = (label >= 0) & (label <= self.num_classes)
            features += jnp.where(known[:, None], table(jnp.where(known, label, 0)), jnp.asarray(jnp.nan, self.dtype))
        if self.observations:
            seen = observations_of(cond, t.shape[0]).astype(self.dtype)
            seen = nn.silu(nn.Dense(self.width, dtype=self.dtype, name="observation_in")(seen))
            features += nn.Dense(self.width, dtype=self.dtype, name="observation_out")(seen)
        return nn.silu(features)


class FiLM(nn.Module):
    """x (1 + scale) + shift with scale, shift `[B, C]` read off the conditioning (arXiv 1709.07871).

    Zero-initialised: a new network ignores its conditioning.
    """

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, features: Array) -> Array:
        channels = x.shape[-1]
        affine = nn.Dense(2 * channels, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="affine")(features)
        scale, shift = jnp.split(affine.reshape((x.shape[0],) + (1,) * (x.ndim - 2) + (2 * channels,)), 2, axis=-1)
        return x * (1 + scale) + shift
