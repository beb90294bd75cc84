r"""The two sweeps of a round over all its rows, as whatever is fastest on the platform that a program is compiled for.

Measured on CPU for 16 to 1,000 rows of 64 to 50,000 numbers: a sequential scan takes a third to a half of the time of
an associative one on large states and the same on small ones; a matrix product is the slowest. Where a kernel costs
microseconds to launch (GPU, TPU) it is their number that counts: an associative scan over W rows takes 2 log2 W of
them, the product with the triangular matrix of slope products four; its W^2 numbers a sample bound its use.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from pcm_jax.parallel import WindowAxis, vary_like
from pcm_jax.types import Array

LARGEST_MATRIX = 256
"""Rows up to which the product with a triangular matrix is taken."""

_SMALLEST = 1e-9
"""Of a slope's logarithm; products of smaller ones are nothing beside the rest."""

_LARGEST = 1e30
"""Of a product of slopes: inf times 0 would be NaN."""

_forced: list[str] = []


@contextlib.contextmanager
def compiled_as(platform: str) -> Iterator[None]:
    """Programs traced inside are those of "cpu" or "gpu", whatever they run on: to count kernels and to test.

    What was compiled before is kept by its arguments: clear caches (`jax.clear_caches()`), or ask for other ones.
    """
    _forced.append(platform)
    try:
        yield
    finally:
        _forced.pop()


def affine_scan(
    slope: Array, add: Array, first: Array | None = None, *, signed: bool = True, own: bool = True
) -> Array:
    """y_w = slope_w y_{w-1} + add_w for w = 0 .. W - 1, y_{-1} = first or 0.

    Args:
        slope: `[W, B]`; add: `[W, B, ...]`, finite unless no slope is below 1; first: `[B, ...]`.
        signed: False promises that no slope is negative.
        own: False leaves add_w out of y_w: what earlier rows bring, slope_w y_{w-1}.

    Returns:
        `[W, B, ...]`.
    """
    if first is not None:
        # A row of its own: it comes out of the same sums.
        slope, add = jnp.concatenate([jnp.ones_like(slope[:1]), slope]), jnp.concatenate([first[None], add])
    matrix = not signed and add.shape[0] <= LARGEST_MATRIX
    accelerator = _product if matrix else _associative
    found = _choose(functools.partial(_sequential, own), functools.partial(accelerator, own), slope, add)
    return found if first is None else found[1:]


def segmented_scan(axis: WindowAxis, slope: Array, add: Array, *, signed: bool = True) -> Array:
    """What earlier rows bring, `affine_scan(.., own=False)`, of rows of which each device holds its own, `[S, ...]`.

    Every device scans its rows as if nothing came in. One all-gather of what leaves each, and of the products of slopes
    that whatever came in is multiplied by, tells every device what does come in, c, which is then added to its rows:

        y_w += a_w .. a_0 c

    Of a window that slides the first row may lie anywhere, and what comes around from its last one is multiplied by 0.
    """
    slope = axis.open(slope)
    brought = affine_scan(slope, add, signed=signed, own=False)
    if not axis.held:
        return brought
    # Of a product of slopes: inf times 0 would be NaN.
    decay = lax.associative_scan(lambda a, b: jnp.clip(a * b, -_LARGEST, _LARGEST), slope)
    batch = add.shape[1]
    leaving = jnp.concatenate(
        [decay[-1][:, None].astype(add.dtype), (brought[-1] + add[-1]).reshape(batch, -1)], axis=1
    )
    every, device = axis.each(leaving)
    through, leaves = every[:, :, 0], every[:, :, 1:]
    through, leaves = (jnp.concatenate([each] * axis.laps) for each in (through, leaves))
    arrives = jnp.concatenate([jnp.zeros_like(leaves[:1]), affine_scan(through, leaves, signed=signed)])
    here = device + (axis.laps - 1) * axis.size
    return brought + _like(decay, brought) * arrives[here].reshape(1, *add.shape[1:])


@jax.custom_jvp
def sums(terms: tuple[Array, ...]) -> tuple[Array, ...]:
    """Sums of each `[W, B, ...]` over a sample's own axes, in one pass over what they are made of."""
    axes = tuple(range(2, terms[0].ndim))
    if not axes:
        return terms

    def together(*terms: Array) -> tuple[Array, ...]:
        zeros = tuple(jnp.zeros((), term.dtype) for term in terms)
        found: Any = lax.reduce(
            terms, vary_like(zeros, terms), lambda a, b: tuple(x + y for x, y in zip(a, b, strict=True)), axes
        )
        return tuple(found)

    return _choose(_one_by_one, together, *terms)


@sums.defjvp
def _sums_jvp(primals: Any, tangents: Any) -> Any:
    """Linear; said here because JAX has no rule for one reduction of terms of which only some move."""
    return sums(*primals), _one_by_one(*tangents[0])


def _one_by_one(*terms: Array) -> tuple[Array, ...]:
    return tuple(jnp.sum(term, tuple(range(2, term.ndim))) for term in terms)


def _choose(cpu: Any, accelerator: Any, *arrays: Array) -> Any:
    if _forced:
        return (cpu if _forced[-1] == "cpu" else accelerator)(*arrays)
    return lax.platform_dependent(*arrays, cpu=cpu, default=accelerator)


def _sequential(own: bool, slope: Array, add: Array) -> Array:
    def step(y: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
        brought = _like(row[0], y) * y
        y = brought + row[1]
        return y, y if own else brought

    return lax.scan(step, vary_like(jnp.zeros_like(add[0]), (slope, add)), (slope, add))[1]


def _associative(own: bool, slope: Array, add: Array) -> Array:
    def compose(first: tuple[Array, Array], then: tuple[Array, Array]) -> tuple[Array, Array]:
        return jnp.minimum(then[0] * first[0], _LARGEST), then[0] * first[1] + then[1]

    slope = _like(slope, add)
    y = lax.associative_scan(compose, (slope, add))[1]
    return y if own else slope * jnp.concatenate([jnp.zeros_like(y[:1]), y[:-1]])


def _product(own: bool, slope: Array, add: Array) -> Array:
    """sum_j P_wj add_j, P_wj the product of slopes j + 1 .. w: exp of a difference of sums of logarithms."""
    size, batch = slope.shape
    upto = jnp.tril(jnp.ones((size, size), slope.dtype))
    high = lax.Precision.HIGHEST
    log = jnp.dot(upto, jnp.log(jnp.maximum(slope, _SMALLEST)), precision=high)
    reaches = jnp.tril(jnp.ones((size, size), bool), 0 if own else -1)[:, :, None]
    products = jnp.exp(jnp.where(reaches, jnp.minimum(log[:, None] - log[None], math.log(_LARGEST)), -jnp.inf))
    if add.ndim == slope.ndim:
        # Masked, not multiplied by 0: what is added may be inf.
        return jnp.sum(jnp.where(reaches, products * add[None], 0.0), axis=1)
    flat = add.reshape(size, batch, -1)
    return jnp.einsum("ijb,jbd->ibd", products.astype(add.dtype), flat, precision=high).reshape(add.shape)


def _like(row: Array, x: Array) -> Array:
    return row.reshape(row.shape + (1,) * (x.ndim - row.ndim)).astype(x.dtype)
