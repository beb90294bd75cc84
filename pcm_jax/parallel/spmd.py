"""The per-device half of a parallel round: it knows an axis name and nothing of who runs it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

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
    """The device axis that the window's rows are spread over. `name=None` is one device, on which nothing is done.

    held: W, where each device holds the states of its own rows alone. Numbers of a row and sample, `[W, B]`, are a
    thousandth of them and whole on every device, so that all decide alike; 0 where every device holds all states and
    only the network is spread: one all-gather of its predictions is then the round's transfer.

    data: the axis that the batch is spread over; None if every device has all samples. given: the body gets the rows of
    its inputs that its device holds, and not all of them.
    """

    name: str | None = None
    size: int = 1
    data: str | None = None
    held: int = 0
    given: bool = False

    @property
    def blocks(self) -> tuple[int, int]:
        """How many blocks of rows and of samples one program holds that lie on different devices."""
        return 1, 1

    def padded(self, rows: int) -> int:
        """The least multiple of the number of devices that holds `rows`."""
        return -(-rows // self.size) * self.size

    def holding(self, rows: int) -> WindowAxis:
        """The axis of a loop in which every device holds its own of `rows` rows."""
        return self if self.name is None else dataclasses.replace(self, held=rows)

    def map_rows(self, function: Callable[..., PyTree], *rows: PyTree) -> PyTree:
        """`function(*rows)` of a device's own rows where it holds these; else split, and whole on each afterwards."""
        if self.name is None or self.held:
            return function(*rows)
        count = jax.tree.leaves(rows)[0].shape[0]
        local = function(*jax.tree.map(lambda leaf: leaf[self._rows(count)], rows))
        return jax.tree.map(lambda leaf: self._gathered(leaf)[:count], local)

    def own(self, tree: PyTree, beside: int = 0) -> PyTree:
        """A device's own rows of `[W, ...]`, S of them; beside: and so many that follow."""
        if not self.held:
            return tree
        rows = self._rows(self.held + beside, beside)
        return self.local(jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], tree))

    def inputs(self, tree: PyTree) -> PyTree:
        """`own` of an input that may have come as such."""
        return tree if self.given else self.own(tree)

    def whole(self, tree: PyTree) -> PyTree:
        """All devices' rows `[S, ...]` on each, `[W, ...]`: numbers of a row and sample in one transfer."""
        if not self.held:
            return tree
        structure: Any
        leaves, structure = jax.tree.flatten(tree)
        if leaves and all(leaf.ndim == 2 and leaf.dtype == leaves[0].dtype for leaf in leaves):
            together = self._gathered(jnp.stack(leaves, axis=-1))[: self.held]
            return structure.unflatten([together[..., index] for index in range(len(leaves))])
        return jax.tree.map(lambda leaf: self._gathered(leaf)[: self.held], tree)

    def filled(self, mask: Array) -> Array:
        """`mask` of own rows, True in those that only fill up the last devices."""
        if self.padded(self.held) == self.held:
            return mask
        share = self.padded(self.held) // self.size
        return mask | (lax.axis_index(self.name) * share + jnp.arange(share) >= self.held)[:, None]

    def take(self, values: Array, index: Array) -> Array:
        """values[index[w, b], b]: rows `[W, B]` of each sample's own axis 0."""
        return values[index, jnp.arange(values.shape[1])[None]]

    def before(self, rows: Array, first: Array) -> Array:
        """The k rows before a device's own, of `rows` `[S, ...]` of its neighbours; before row 0 `first` `[k, ...]`."""
        if not self.held:
            return first
        depth, share, parts = first.shape[0], rows.shape[0], []
        for hops in range(-(-depth // share), 0, -1):
            tail = rows[max(share - (depth - (hops - 1) * share), 0) :]
            # All round: vmap knows no other permutations, and what comes to device 0 is not used.
            around = [(device, (device + hops) % self.size) for device in range(self.size)]
            parts.append(lax.ppermute(tail, self.name, around))
        row = lax.axis_index(self.name) * share - depth + jnp.arange(depth)
        known = (row >= 0).reshape(-1, *(1,) * (first.ndim - 1))
        return jnp.where(known, jnp.concatenate(parts), first[jnp.clip(row + depth, 0, depth - 1)])

    def each(self, leaf: Array) -> tuple[Array, Array]:
        """`leaf` of every device, `[devices, ...]`, and which one this is; for devices that hold rows."""
        return self._gathered(leaf[None]), lax.axis_index(self.name)

    def pick(self, row: Array, look: Callable[[Array], PyTree]) -> PyTree:
        """`look(row)` from the device that holds it, row `[]` or `[B]` of the window; `look` gets its number there."""
        if not self.held:
            return look(row)
        share = self.padded(self.held) // self.size
        mine = row - lax.axis_index(self.name) * share
        here = (mine >= 0) & (mine < share)

        def leaf(seen: Array) -> Array:
            mask = here.reshape(here.shape + (1,) * (seen.ndim - here.ndim))
            return lax.psum(jnp.where(mask, seen, jnp.zeros_like(seen)), self.name)

        return jax.tree.map(leaf, look(jnp.clip(mine, 0, share - 1)))

    def local(self, tree: PyTree) -> PyTree:
        """`tree`, marked as a device's own where JAX tracks that."""
        return vary_like(tree, lax.axis_index(self.name)) if self.held else tree

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

    def _rows(self, count: int, beside: int = 0) -> Array:
        """A device's own of `count` rows. Those that fill up the last device repeat the last row: real inputs, so they
        cannot raise a NaN that nobody asked for.
        """  # noqa: D205
        share = self.padded(count - beside) // self.size
        return jnp.minimum(lax.axis_index(self.name) * share + jnp.arange(share + beside), count - 1)

    def _gathered(self, leaf: Array) -> Array:
        # Where JAX tracks which values differ between devices (shard_map's check_vma), say that this does not.
        tracked = self.name in jax.typeof(leaf).manual_axis_type.varying
        return lax.all_gather(leaf, self.name, axis=0, tiled=True, to="invarying" if tracked else "varying")
