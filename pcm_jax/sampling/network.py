"""One batched network call for rows of many times and samples."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from pcm_jax.results import SampleOutput
from pcm_jax.switching import Adapter
from pcm_jax.types import Array, ArrayLike, Cond, ModelFn, Params, is_shared, rows_of


def call_rows(
    model_fn: ModelFn,
    params: Params,
    x: Array,
    time: ArrayLike,
    cond: Cond,
    dtype: jnp.dtype,
    adapter: Adapter | None = None,
    share: Array | None = None,
    blocks: tuple[int, int] = (1, 1),
) -> Array:
    """The prediction for `x` `[R, B, ...]` at `time` `[R, B]`, as one call on R * B rows.

    The network sees `dtype` (that of the noise); states, sums and norms stay in x's dtype. `cond` has leading axis B
    and is repeated for every row, but for its `Shared` parts. With an adapter, its part in each row is `share`
    `[R, B]`.

    blocks: into how many R and B are sharded. Rows of one block are neighbours in the call: in any other order a
    partitioner would have to gather them first.
    """
    rows, batch = x.shape[:2]

    def flat(leaf: Array) -> Array:
        if blocks != (1, 1):
            leaf = leaf.reshape(blocks[0], rows // blocks[0], blocks[1], batch // blocks[1], *leaf.shape[2:])
            leaf = jnp.swapaxes(leaf, 1, 2)
            return leaf.reshape(rows * batch, *leaf.shape[4:])
        return leaf.reshape(rows * batch, *leaf.shape[2:])

    def repeat(leaf: Any) -> Any:
        if is_shared(leaf):
            return leaf
        leaf = jnp.asarray(leaf)
        return flat(jnp.broadcast_to(leaf, (rows, *leaf.shape)))

    times, conds = flat(jnp.asarray(time, jnp.float32)), jax.tree.map(repeat, cond, is_leaf=is_shared)
    if adapter is None or share is None:
        prediction = model_fn(params, flat(x.astype(dtype)), times, conds)
    else:
        prediction = adapter.predict(model_fn, params, flat(x.astype(dtype)), times, conds, flat(share))
    if blocks != (1, 1):
        prediction = prediction.reshape(*blocks, rows // blocks[0], batch // blocks[1], *x.shape[2:])
        prediction = jnp.swapaxes(prediction, 1, 2)
    return prediction.reshape(x.shape)


def count_rows(model_fn: ModelFn, out: SampleOutput) -> SampleOutput:
    """`out` with evaluations in network rows: guidance takes two for each."""
    rows, stats = rows_of(model_fn), out.stats
    if rows == 1:
        return out
    stats = dataclasses.replace(
        stats, evaluations=rows * stats.evaluations, padded_evaluations=rows * stats.padded_evaluations
    )
    return dataclasses.replace(out, stats=stats)


def draw_step_noise(key: Array, num_steps: int, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """z `[T, *shape]`, one key for each absolute step and sample: no draw depends on the batch size or the window."""

    def draw(step: Array, sample: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(jax.random.fold_in(key, step), sample), shape[1:], dtype)

    per_batch = jax.vmap(draw, in_axes=(None, 0))
    return jax.vmap(per_batch, in_axes=(0, None))(jnp.arange(num_steps), jnp.arange(shape[0]))
