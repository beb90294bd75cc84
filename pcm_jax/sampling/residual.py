r"""Norms: how much did a state change in this round, in units that a tolerance can be compared with.

A tolerance bounds the last change of every state that a later state was computed from. It does not bound the error of
the sample; that is smaller where the rounds contract and larger where they do not (the demo plots both).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import jax.numpy as jnp

from pcm_jax.types import Array

Norm: TypeAlias = Callable[[Array, Array], Array]
"""(change `[W, B, ...]`, variance `[W, B]` that an ancestral step injects into these states) -> residual `[W, B]`."""


def noise_units(change: Array, variance: Array) -> Array:
    """sqrt(mean(change^2) / variance): 1 is the noise that DDPM adds at this step. ParaDiGMS's rule, equation 8."""
    return root_mean_square(change, variance) / jnp.sqrt(variance)


def root_mean_square(change: Array, variance: Array) -> Array:
    """sqrt(mean(change^2)), in units of the state."""
    return jnp.sqrt(jnp.mean(change * change, axis=tuple(range(2, change.ndim))))


def largest(change: Array, variance: Array) -> Array:
    """max |change|, in units of the state."""
    return jnp.max(jnp.abs(change), axis=tuple(range(2, change.ndim)))
