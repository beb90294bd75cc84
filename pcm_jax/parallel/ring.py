"""Devices that hold their own rows of a window that slides: the rows keep their place, the window goes round.

Row t of the trajectory lies in slot t mod P of P = D S >= W slots, of which device d has d S .. d S + S - 1. The W rows
of a window lie in neighbouring slots, from that of its first row on and around. When it slides no state moves: rows
that enter take the slots of rows that have left. Samples slide on their own; what differs is where their seam is, the
slot of the first row. The row before that is accepted, and its slot may be taken: what it handed on is kept as an edge.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from pcm_jax.parallel.spmd import WindowAxis
from pcm_jax.types import Array, PyTree


@dataclasses.dataclass(frozen=True)
class Ring(WindowAxis):
    """See above. start: `[B]`, or `[1]` where samples share it, the window's first row; see `turned`.

    Edges `[k, B, ...]` differ between devices: each knows what the rows in its own slots read.
    """

    start: Array | None = None

    @property
    def laps(self) -> int:
        """Two: in the first one the devices before the seam do not yet know what comes in."""
        return 2

    def turned(self, start: Array) -> Ring:
        return dataclasses.replace(self, start=start)

    def own(self, tree: PyTree) -> PyTree:
        index = jnp.minimum(self.order(), self.held - 1)
        return self.local(jax.tree.map(lambda leaf: self.take(leaf, index), tree))

    def filled(self, mask: Array) -> Array:
        return mask if self._slots == self.held else mask | (self.order() >= self.held)

    def lies(self, row: Array) -> Array:
        return row // self._slots * self.share + jnp.arange(self.share, dtype=row.dtype)[:, None]

    def behind(self, rows: Array, edge: Array) -> Array:
        """Here the k rows before a device's own may be of the window's other end."""
        return jnp.concatenate([self._around(rows, edge.shape[0]), rows])

    def earlier(self, every: Array, edge: Array) -> list[Array]:
        depth, order, found = edge.shape[0], self.order(), []
        for row in range(depth):
            before = edge if depth == 1 else self.take(edge, jnp.minimum(order + row, depth - 1))
            found.append(_where(order + row >= depth, every[row : row + self.share], before))
        return found

    def edge(self, edge: Array, every: Array, shift: Array) -> Array:
        depth = edge.shape[0]
        number = jnp.arange(depth, dtype=shift.dtype)[:, None]
        # The slots of every, from k before the device's first one on; those behind its last are around the ring.
        at = (self.begin + shift - self._first)[None] % self._slots + number
        at = jnp.where(at < every.shape[0], at, at - self._slots)
        found = self.take(every, jnp.clip(at, 0, every.shape[0] - 1))
        still = self.take(edge, jnp.minimum(shift[None] + number, depth - 1))
        return _where(shift[None] + number < depth, still, found)

    def open(self, slope: Array) -> Array:
        order = self.order()
        return jnp.where((order == 0) | (order >= self.held), 0, slope)

    def order(self, beside: int = 0) -> Array:
        """Numbers `[S, B]` in the window of what lies in a device's slots; beside: also of so many slots before."""
        slot = self._first - beside + jnp.arange(self.share + beside, dtype=self.begin.dtype)
        return (slot[:, None] - self.begin[None]) % self._slots

    def stays(self, shift: Array, beside: int = 0) -> Array:
        """bool like `order`: rows of this window that were in the last one, from which it slid by `shift`."""
        return self.order(beside) + shift[None] < self.held

    def entering(self, states: PyTree, guess: PyTree | None, start: Array) -> tuple[PyTree, Ring]:
        """What rows that enter hand on `[S + 1, B, ...]`, of the guess or as the last row `[1, B, ...]`; the axis then.

        states: `[S + 1, B, ...]`, what rows hand on now. guess: a device's `part` of it, with one beside. start: the
        next window's first row.
        """
        turned = self.turned(start)
        if guess is None:
            last: Callable[[Array], PyTree] = lambda at: jax.tree.map(  # noqa: E731
                lambda leaf: self.take(leaf, 1 + at[None])[0], states
            )
            found = self.pick(jnp.full_like(self.begin, self.held - 1), last)
            return jax.tree.map(lambda leaf: leaf[None], found), turned
        number = jnp.arange(self.share + 1, dtype=start.dtype)[:, None]
        block = (start[None] + turned.order(1) + 1 - number) // self._slots

        def leaf(guess: Array) -> Array:
            blocks = guess.shape[0] // (self.share + 1)
            return self.take(guess, jnp.clip(block, 0, blocks - 1) * (self.share + 1) + number)

        return jax.tree.map(leaf, guess), turned

    @property
    def begin(self) -> Array:
        """start, once the ring is turned."""
        assert self.start is not None
        return self.start

    @property
    def _slots(self) -> int:
        return self.padded(self.held)

    @property
    def _first(self) -> Array:
        """A device's first slot."""
        return lax.axis_index(self.name) * self.share

    def _slot(self, row: Array) -> Array:
        return (self.begin + row) % self._slots

    def _ordered(self, slots: Array) -> Array:
        index = (self.begin[None] + jnp.arange(self.held, dtype=self.begin.dtype)[:, None]) % self._slots
        return self.take(slots, index)


def holding(axis: WindowAxis, window: int, steps: int) -> WindowAxis:
    """The axis of a loop in which every device holds its own of the `window` rows, of `steps`."""
    if axis.name is None:
        return axis
    if window == steps:
        return dataclasses.replace(axis, held=window)
    fields = {field.name: getattr(axis, field.name) for field in dataclasses.fields(axis)}
    return Ring(**fields | {"held": window})


def _where(mask: Array, then: Array, otherwise: Array) -> Array:
    return jnp.where(mask.reshape(mask.shape + (1,) * (then.ndim - mask.ndim)), then, otherwise)
