"""Bounds on the data prediction inside every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from pcm_jax import checks
from pcm_jax.types import Array

Clip = float | Callable[[Array], Array] | None
"""A bound on |x_0|, a function of the predictions of many samples `[N, ...]`, or None."""


def check_clip(clip: Clip) -> None:
    """Raise a ValueError unless it is one of these."""
    if clip is None or callable(clip):
        return
    try:
        checks.number("clip", clip, 0, above=True)
    except ValueError:
        raise ValueError(f"clip must be a positive bound, a function or None, got {clip!r}") from None


def dynamic_threshold(ratio: float = 0.995, max_value: float = 1.0) -> Callable[[Array], Array]:
    """Imagen's clip (arXiv 2205.11487, section 2.3): s = quantile(|x_0|) in [1, max_value], clip to s, divide by s."""
    checks.number("ratio", ratio, 0, 1, above=True, hint="a quantile of |x_0|")
    checks.number("max_value", max_value, 1, hint="a bound that the data lie in")
    return _DynamicThreshold(float(ratio), float(max_value))


@dataclasses.dataclass(frozen=True)
class _DynamicThreshold:
    ratio: float
    max_value: float

    def __call__(self, data: Array) -> Array:
        flat = jnp.abs(data.reshape(data.shape[0], -1))
        bound = jnp.clip(jnp.quantile(flat, self.ratio, axis=1), 1.0, self.max_value)
        bound = bound.reshape((-1,) + (1,) * (data.ndim - 1))
        return jnp.clip(data, -bound, bound) / bound
