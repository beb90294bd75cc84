"""Index arithmetic of the window: which rows a round evaluates, and what moves when it slides.

With all rows in it nothing moves: rows keep their place and accepted ones are masked. A smaller window slides, every
sample's on its own, or all of them with the slowest where one call of the step takes the whole batch (`together`).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from pcm_jax.parallel import WindowAxis
from pcm_jax.parallel.ring import Ring
from pcm_jax.types import Array, PyTree


@dataclasses.dataclass(frozen=True)
class Place:
    """A window's rows. row: int32 `[W, B]`, or `[W, 1]` where samples share it; index: the same, inside the trajectory.

    inside: False past the end, None where that cannot be. axis: of the devices, as they lie to this window.
    """

    row: Array
    index: Array
    inside: Array | None
    axis: WindowAxis = WindowAxis()  # noqa: RUF009 - frozen

    def own(self) -> Place:
        """Those that a device holds, `[S, B]`."""
        return Place(self.axis.own(self.row), self.axis.own(self.index), None, self.axis) if self.axis.held else self


@dataclasses.dataclass(frozen=True)
class Window:
    """W of T rows. axis: of the devices that they lie on."""

    size: int
    num_steps: int
    together: bool = False
    axis: WindowAxis = WindowAxis()  # noqa: RUF009 - frozen

    @property
    def whole(self) -> bool:
        """Whether it holds every row, and stays where it is."""
        return self.size == self.num_steps

    def start(self, front: Array, active: Array) -> Array:
        """First row, `[B]`, or `[1]` where samples share it. front, active: `[B]`."""
        if self.whole:
            return jnp.zeros(1, front.dtype)
        if self.together:
            return jnp.min(jnp.where(active, front, self.num_steps), keepdims=True)
        return front

    def at(self, start: Array) -> Place:
        """The rows of the window that starts there."""
        axis = self.axis.turned(start)
        if self.whole:
            row = jnp.arange(self.size, dtype=start.dtype)[:, None]
            return Place(row, row, None, axis)
        row = window_rows(start, self.size)
        return Place(row, jnp.minimum(row, self.num_steps - 1), row < self.num_steps, axis)

    def take(self, values: PyTree, place: Place) -> PyTree:
        """The window's rows of values `[T, B, ...]`: `[W, B, ...]`."""
        return values if self.whole else jax.tree.map(lambda leaf: self.axis.take(leaf, place.index), values)

    def part(self, values: PyTree, place: Place) -> PyTree:
        """A device's own rows of values `[T, B, ...]`, of which it has its part."""
        if self.whole:
            return values
        index = place.axis.lies(place.index)
        return jax.tree.map(lambda leaf: self.axis.take(leaf, index), values)

    def columns(self, values: PyTree, place: Place) -> PyTree:
        """The window's rows of values `[T]` that samples share, `[W, B]` or `[W, 1]`."""
        structure: Any
        leaves, structure = jax.tree.flatten(values)
        leaves = list(map(jnp.asarray, leaves))
        if self.whole:
            return structure.unflatten([leaf[:, None] for leaf in leaves])
        # Columns of a kind in one gather: the table of them is made once, before the loop.
        kinds: dict[Any, list[int]] = {}
        for number, leaf in enumerate(leaves):
            kinds.setdefault((leaf.dtype, leaf.shape), []).append(number)
        for numbers in kinds.values():
            taken = jnp.stack([leaves[number] for number in numbers], axis=1)[place.index]
            for column, number in enumerate(numbers):
                leaves[number] = taken[:, :, column]
        return structure.unflatten(leaves)

    def shared(self, values: PyTree, place: Place) -> PyTree:
        """`part` of values `[T, ...]`; for windows that samples share."""
        if self.whole:
            return values
        index = place.axis.lies(place.index)[:, 0]
        return jax.tree.map(lambda leaf: leaf[index], values)

    def carried(self, values: PyTree, shift: Array, fill: float, place: Place | None = None) -> PyTree:
        """Rows `[W, B, ...]` moved to the next window; rows that enter hold `fill`.

        place: of the last window, for values of which devices hold their own rows: these stay where they are.
        """
        if self.whole:
            return values
        if place is not None and isinstance(place.axis, Ring):
            stays = place.axis.turned(place.axis.begin + shift).stays(shift)
            return where(stays, values, fill)
        source = window_rows(shift, self.size)
        index = jnp.minimum(source, self.size - 1)

        def leaf(values: Array) -> Array:
            known = (source < self.size).reshape(source.shape + (1,) * (values.ndim - 2))
            return jnp.where(known, self.axis.take(values, index), fill)

        return jax.tree.map(leaf, values)

    def slid(self, states: PyTree, shift: Array, start: Array, guess: PyTree | None, place: Place) -> PyTree:
        """States `[W + 1, B, ...]` of the next window, which starts at `start`; place: of the last one.

        States that enter come from the guess `[T + 1, B, ...]`, else they are copies of the last one known.
        """
        if self.whole:
            return states
        if isinstance(place.axis, Ring):
            entering, turned = place.axis.entering(states, guess, start)
            return where(turned.stays(shift, beside=1), states, entering)
        source = window_rows(shift, self.size + 1)
        kept = jax.tree.map(lambda leaf: self.axis.take(leaf, jnp.minimum(source, self.size)), states)
        if guess is None:
            return kept
        absolute = jnp.minimum(window_rows(start, self.size + 1), self.num_steps)
        return where(source > self.size, jax.tree.map(lambda leaf: self.axis.take(leaf, absolute), guess), kept)

    def store(self, buffer: PyTree, values: PyTree, place: Place, keep: Array) -> PyTree:
        """`buffer` `[T, B, ...]` with values `[W, B, ...]` in the rows where `keep` `[W, B]`."""

        def leaf(buffer: Array, values: Array) -> Array:
            # Rows that are not kept are sent out of range and dropped.
            target = jnp.where(keep, place.axis.lies(place.row), buffer.shape[0])
            return buffer.at[target, jnp.arange(values.shape[1])[None]].set(values, mode="drop")

        return jax.tree.map(leaf, buffer, values)


def window_rows(start: Array, size: int) -> Array:
    """Indices `[W, B]` of windows that start at `start` `[B]`. They may pass the end; nothing is clamped."""
    return start[None] + jnp.arange(size, dtype=start.dtype)[:, None]


def take_rows(values: Array, index: Array) -> Array:
    """values[index[w, b], b]: rows `[W, B]` of each sample's own axis 0."""
    return values[index, jnp.arange(values.shape[1])[None]]


def leading(flags: Array) -> Array:
    """How many of `flags` `[W, B]` are True before the first that is not: int32 `[B]`."""
    return lax.argmin(jnp.concatenate([flags, jnp.zeros_like(flags[:1])]), 0, jnp.int32)


def after(states: PyTree) -> PyTree:
    """States that follow, of `[W + 1, B, ...]`."""
    return jax.tree.map(lambda leaf: leaf[1:], states)


def where(mask: Array, then: PyTree, otherwise: PyTree | float) -> PyTree:
    """jnp.where on every leaf; the mask's axes are the leaves' first ones. otherwise: a tree like then, or a number."""

    def leaf(a: Array, b: Array | float) -> Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, b)

    if isinstance(otherwise, float):
        return jax.tree.map(lambda a: leaf(a, otherwise), then)
    return jax.tree.map(leaf, then, otherwise)


def all_finite(tree: PyTree, lead: int = 2) -> Array:
    """bool of the first `lead` axes: whether every leaf is finite there."""
    flags = [jnp.all(jnp.isfinite(leaf), axis=tuple(range(lead, leaf.ndim))) for leaf in jax.tree.leaves(tree)]
    return functools.reduce(jnp.logical_and, flags)
