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

    held: W, where each device holds the states of its own rows alone, S = W / D of them. Numbers of a row and sample,
    `[W, B]`, are a thousandth of them and whole on every device, so that all decide alike; 0 where every device holds
    all states and only the network is spread: one all-gather of its predictions is then the round's transfer. Here the
    window has all rows; `Ring` is of one that slides.

    data: the axis that the batch is spread over; None if every device has all samples. others: further axes, whose
    devices leave a loop together with these. given: the body gets the rows of
    its inputs that its device holds, and not all of them.
    """

    name: str | None = None
    size: int = 1
    data: str | None = None
    held: int = 0
    given: bool = False
    others: tuple[str, ...] = ()

    @property
    def blocks(self) -> tuple[int, int]:
        """How many blocks of rows and of samples one program holds that lie on different devices."""
        return 1, 1

    @property
    def share(self) -> int:
        """S, the window's rows that a device holds."""
        return self.padded(self.held) // self.size

    @property
    def laps(self) -> int:
        """How often what passes from device to device goes past all of them."""
        return 1

    def padded(self, rows: int) -> int:
        """The least multiple of the number of devices that holds `rows`."""
        return -(-rows // self.size) * self.size

    def turned(self, start: Array) -> WindowAxis:
        """As the devices lie to a window that starts at row `start`, `[B]` or `[1]`."""
        return self

    def map_rows(self, function: Callable[..., PyTree], *rows: PyTree) -> PyTree:
        """`function(*rows)` of a device's own rows where it holds these; else split, and whole on each afterwards."""
        if self.name is None or self.held:
            return function(*rows)
        count = jax.tree.leaves(rows)[0].shape[0]
        local = function(*jax.tree.map(lambda leaf: leaf[self._rows(count)], rows))
        return jax.tree.map(lambda leaf: self._gathered(leaf)[:count], local)

    def own(self, tree: PyTree) -> PyTree:
        """Numbers `[W, ...]` of a device's own rows, `[S, ...]`."""
        return self.part(tree)

    def part(self, tree: PyTree, beside: int = 0) -> PyTree:
        """A device's part of a table `[N, ...]`: the rows n for which n mod D S is one of its S slots.

        beside: with so many that follow each S of them.
        """
        if not self.held:
            return tree
        first = lax.axis_index(self.name) * self.share + jnp.arange(self.share + beside)

        def leaf(values: Array) -> Array:
            # Those that fill up the last device repeat the last row: real inputs, so they cannot raise a NaN.
            values = jnp.asarray(values)
            blocks = self._blocks(values.shape[0] - beside)
            rows = (jnp.arange(blocks)[:, None] * self.padded(self.held) + first[None]).reshape(-1)
            return values[jnp.minimum(rows, values.shape[0] - 1)]

        return self.local(jax.tree.map(leaf, tree))

    def inputs(self, tree: PyTree) -> PyTree:
        """`part` of an input that may have come as such."""
        return tree if self.given else self.part(tree)

    def joined(self, tree: PyTree, count: int) -> PyTree:
        """The table `[count, ...]` on every device, of which each has its `part`."""
        if not self.held:
            return tree

        def leaf(values: Array) -> Array:
            blocks = self._gathered(values).reshape(self.size, -1, self.share, *values.shape[1:])
            return jnp.swapaxes(blocks, 0, 1).reshape(-1, *values.shape[1:])[:count]

        return jax.tree.map(leaf, tree)

    def whole(self, tree: PyTree) -> PyTree:
        """All devices' numbers of a row and sample `[S, B]` on each, `[W, B]`, in one transfer."""
        if not self.held:
            return tree
        structure: Any
        leaves, structure = jax.tree.flatten(tree)
        if leaves and all(leaf.ndim == 2 and leaf.dtype == leaves[0].dtype for leaf in leaves):
            together = self._ordered(self._gathered(jnp.stack(leaves, axis=-1)))
            return structure.unflatten([together[..., index] for index in range(len(leaves))])
        return jax.tree.map(lambda leaf: self._ordered(self._gathered(leaf)), tree)

    def filled(self, mask: Array) -> Array:
        """`mask` of own rows, True in those that only fill up the last devices."""
        if self.padded(self.held) == self.held:
            return mask
        return mask | (lax.axis_index(self.name) * self.share + jnp.arange(self.share) >= self.held)[:, None]

    def take(self, values: Array, index: Array) -> Array:
        """values[index[w, b], b]: rows `[W, B]` of each sample's own axis 0."""
        return values[index, jnp.arange(values.shape[1])[None]]

    def lies(self, row: Array) -> Array:
        """Where a table's rows `[S, B]` are in what the device has of it."""
        return row

    def behind(self, rows: Array, edge: Array) -> Array:
        """`[k + S, ...]`: the k rows before a device's own, and these; before the window `edge` `[k, ...]`."""
        return jnp.concatenate([self._before(rows, edge), rows])

    def earlier(self, every: Array, edge: Array) -> list[Array]:
        """For each row of a device what is k, .., 1 rows before it, `[S, ...]` each; every: what `behind` returned."""
        depth = edge.shape[0]
        return [every[row : every.shape[0] - depth + row] for row in range(depth)]

    def edge(self, edge: Array, every: Array, shift: Array) -> Array:
        """The k rows before a window that slid by `shift` rows; every: what `behind` returned for the last one."""
        depth = edge.shape[0]
        return self.take(every, shift[None] + jnp.arange(depth, dtype=shift.dtype)[:, None])

    def _before(self, rows: Array, edge: Array) -> Array:
        if not self.held:
            return edge
        depth = edge.shape[0]
        row = lax.axis_index(self.name) * self.share - depth + jnp.arange(depth)
        known = (row >= 0).reshape(-1, *(1,) * (edge.ndim - 1))
        return jnp.where(known, self._around(rows, depth), edge[jnp.clip(row + depth, 0, depth - 1)])

    def _around(self, rows: Array, depth: int) -> Array:
        """The last `depth` rows of the devices before, the last device before the first."""
        share, parts = rows.shape[0], []
        for hops in range(-(-depth // share), 0, -1):
            tail = rows[max(share - (depth - (hops - 1) * share), 0) :]
            # All round: vmap knows no other permutations, and what comes to device 0 need not be used.
            around = [(device, (device + hops) % self.size) for device in range(self.size)]
            parts.append(lax.ppermute(tail, self.name, around))
        return jnp.concatenate(parts)

    def each(self, leaf: Array) -> tuple[Array, Array]:
        """`leaf` of every device, `[devices, ...]`, and which one this is; for devices that hold rows."""
        return self._gathered(leaf[None]), lax.axis_index(self.name)

    def pick(self, row: Array, look: Callable[[Array], PyTree]) -> PyTree:
        """`look(row)` from the device that holds it, row `[1]` or `[B]` of the window; `look` gets its number there."""
        if not self.held:
            return look(row)
        mine = self._slot(row) - lax.axis_index(self.name) * self.share
        here = (mine >= 0) & (mine < self.share)

        def leaf(seen: Array) -> Array:
            mask = here.reshape(here.shape + (1,) * (seen.ndim - here.ndim))
            return lax.psum(jnp.where(mask, seen, jnp.zeros_like(seen)), self.name)

        return jax.tree.map(leaf, look(jnp.clip(mine, 0, self.share - 1)))

    def open(self, slope: Array) -> Array:
        """Slopes `[S, B]`, 0 where nothing comes in from the row before."""
        return slope

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
        names = (self.name, *(() if self.data is None else (self.data,)), *self.others)
        every: Array = vary_like(lax.pmin(flag.astype(jnp.int32), names), flag).astype(bool)
        return every

    def total(self, count: Array) -> Array:
        """Of a number that each part of the batch has, the sum."""
        return count if self.data is None else lax.psum(count, self.data)

    def _rows(self, count: int) -> Array:
        """A device's own of `count` rows. Those that fill up the last device repeat the last row."""
        share = self.padded(count) // self.size
        return jnp.minimum(lax.axis_index(self.name) * share + jnp.arange(share), count - 1)

    def _blocks(self, rows: int) -> int:
        """How often a table of so many rows goes round the devices."""
        return -(-rows // self.padded(self.held))

    def _slot(self, row: Array) -> Array:
        return row

    def _ordered(self, slots: Array) -> Array:
        """The window's rows `[W, ...]` of all slots `[D S, ...]`."""
        return slots[: self.held]

    def _gathered(self, leaf: Array) -> Array:
        # Where JAX tracks which values differ between devices (shard_map's check_vma), say that this does not.
        tracked = self.name in jax.typeof(leaf).manual_axis_type.varying
        return lax.all_gather(leaf, self.name, axis=0, tiled=True, to="invarying" if tracked else "varying")
