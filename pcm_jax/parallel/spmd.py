"""The per-device half of a parallel round: it knows an axis name and nothing of who runs it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from pcm_jax.types import Array, PyTree


def vary_like(tree: PyTree, inputs: PyTree) -> PyTree:
    """`tree`, marked as differing between devices wherever `inputs` (arrays or their types) do.

    Inside a `shard_map` that tracks this (check_vma), a loop's first carry must be as varying as what the loop makes of
    it: constants beside a batch that the caller has sharded are not, until they are told.
    """
    varying: frozenset[str] = frozenset()
    for leaf in jax.tree.leaves(inputs):
        varying |= (leaf if isinstance(leaf, jax.core.ShapedArray) else jax.typeof(leaf)).manual_axis_type.varying

    def mark(leaf: Array) -> Array:
        missing = tuple(varying - jax.typeof(leaf).manual_axis_type.varying)
        return lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(mark, tree)


@dataclasses.dataclass(frozen=True)
class WindowAxis:
    """The device axis that the window's rows are spread over. `name=None` is one device.

    Only the network is spread. Everything else in a round is a thousandth of its cost and is repeated on every
    device, so that one all-gather of the predictions is the round's only large transfer.

    data: the axis that the batch is spread over; None if every device has all samples.
    """

    name: str | None = None
    size: int = 1
    data: str | None = None

    @property
    def blocks(self) -> tuple[int, int]:
        """How many blocks of rows and of samples one program holds that lie on different devices."""
        return 1, 1

    def padded(self, rows: int) -> int:
        """The least multiple of the number of devices that holds `rows`."""
        return -(-rows // self.size) * self.size

    def map_rows(self, function: Callable[..., PyTree], *rows: PyTree) -> PyTree:
        """`function(*rows)` with the leading axis split over the devices, whole on every device afterwards."""
        if self.name is None:
            return function(*rows)
        count = jax.tree.leaves(rows)[0].shape[0]
        share = self.padded(count) // self.size
        first = lax.axis_index(self.name) * share
        # Padded lanes repeat the last row: real inputs, so they cannot raise a NaN that nobody asked for.
        mine = jnp.minimum(first + jnp.arange(share), count - 1)
        local = function(*jax.tree.map(lambda leaf: leaf[mine], rows))

        def whole(leaf: Array) -> Array:
            # Where JAX tracks which values differ between devices (shard_map's check_vma), say that this does not.
            tracked = self.name in jax.typeof(leaf).manual_axis_type.varying
            kind = "invarying" if tracked else "varying"
            return lax.all_gather(leaf, self.name, axis=0, tiled=True, to=kind)[:count]

        return jax.tree.map(whole, local)

    def afresh(self, tree: PyTree, x: PyTree) -> PyTree:
        """`tree`, which does not change from round to round, as a round that computes from x reads it."""
        return tree

    def settled(self, tree: PyTree) -> PyTree:
        """`tree` `[W, B, ...]` as the loop carries it, where a partitioner would have to guess."""
        return tree

    def all(self, flag: Array) -> Array:
        """True only if it is on every device: devices that leave a loop at different times hang."""
        if self.name is None:
            return flag
        names = (self.name,) if self.data is None else (self.name, self.data)
        return lax.pmin(flag.astype(jnp.int32), names).astype(bool)

    def total(self, count: Array) -> Array:
        """Of a number that each part of the batch has, the sum."""
        return count if self.data is None else lax.psum(count, self.data)
