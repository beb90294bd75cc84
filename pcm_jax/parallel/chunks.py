"""A batched function on many rows in several smaller calls, one after the other: less memory, the same results."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from pcm_jax.types import PyTree


def chunk_sizes(rows: int, most: int | None) -> tuple[int, int]:
    """(calls, rows of each): the fewest calls of at most `most` rows, all of one size, that hold `rows`.

    Even calls need the least padding: 10 rows at most 6 at a time are 2 x 5 and not 6 + 6.
    """
    if most is None or most >= rows:
        return 1, rows
    calls = -(-rows // most)
    return calls, -(-rows // calls)


def in_chunks(function: Callable[..., PyTree], most: int | None, *rows: PyTree) -> PyTree:
    """`function(*rows)`, leaves `[R, ...]` in and out, on at most `most` rows at a time; None: all at once.

    One program is compiled for all chunks (`lax.map`). Rows of `function` must not see each other. The last chunk is
    filled up with copies of the last row: real inputs, so they cannot raise a NaN that nobody asked for.
    """
    count = jax.tree.leaves(rows)[0].shape[0]
    calls, size = chunk_sizes(count, most)
    if calls == 1:
        return function(*rows)
    index = jnp.minimum(jnp.arange(calls * size), count - 1).reshape(calls, size)
    out = lax.map(lambda mine: function(*jax.tree.map(lambda leaf: leaf[mine], rows)), index)
    return jax.tree.map(lambda leaf: leaf.reshape(calls * size, *leaf.shape[2:])[:count], out)
