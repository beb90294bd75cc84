r"""Norms: how far two states, or a state and its neighbour's step, lie apart, in units that a tolerance is given in."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from pcm_jax.parallel import WindowAxis
from pcm_jax.types import Array, PyTree

Norm: TypeAlias = Callable[[Array, Array], Array]
"""(change `[W, B, ...]`, variance `[W, B]` that an ancestral step injects into these states) -> residual `[W, B]`."""


def noise_units(change: Array, variance: Array) -> Array:
    """sqrt(mean(change^2) / variance): 1 is the noise that DDPM adds at this step. ParaDiGMS's rule, equation 8."""
    return root_mean_square(change, variance) / jnp.sqrt(variance)


def root_mean_square(change: Array, variance: Array) -> Array:
    """sqrt(mean(change^2)), in units of the state."""
    change = change.astype(jnp.promote_types(change.dtype, jnp.float32))
    return jnp.sqrt(jnp.mean(change * change, axis=tuple(range(2, change.ndim))))


def largest(change: Array, variance: Array) -> Array:
    """max |change|, in units of the state."""
    return jnp.max(jnp.abs(change), axis=tuple(range(2, change.ndim)))


def of_tree(norm: Norm, change: PyTree, variance: Array) -> Array:
    """`[W, B]`: of a state of several leaves the root of the sum of squares, so that no leaf's is larger."""
    found = [norm(leaf, variance) for leaf in jax.tree.leaves(change)]
    return found[0] if len(found) == 1 else jnp.sqrt(functools.reduce(jnp.add, [each * each for each in found]))


def of_rows(norm: Norm, change: PyTree, variance: Array, axis: WindowAxis) -> Array:
    """`of_tree(norm, change, variance)` `[W, B]`, of changes of which every device holds its own rows."""
    found: Array = axis.whole(of_tree(norm, change, axis.own(variance)))
    return found


def from_squares(norm: Norm, squares: list[Array], change: PyTree, variance: Array, axis: WindowAxis) -> Array:
    """`of_rows(norm, ..)`; of the root mean square from the sums of squares of every leaf, `[W, B]`."""
    if norm is not root_mean_square:
        return of_rows(norm, change, variance, axis)
    sizes = [math.prod(leaf.shape[2:]) for leaf in jax.tree.leaves(change)]
    means = [each / size for each, size in zip(squares, sizes, strict=True)]
    return jnp.sqrt(functools.reduce(jnp.add, means))


def difference(a: PyTree, b: PyTree) -> PyTree:
    """a - b, leaf by leaf."""
    return jax.tree.map(jnp.subtract, a, b)
