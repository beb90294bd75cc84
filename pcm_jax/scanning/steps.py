"""A step function as a recurrence: vmapped over the window's rows, which the whole batch shares."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from pcm_jax.parallel import in_chunks, vary_like
from pcm_jax.recurrence import Evaluation, Place, Window
from pcm_jax.recurrence.window import where
from pcm_jax.scanning.trace import Traced
from pcm_jax.types import Array, PyTree


class Plain(NamedTuple):
    """What slopes and certificates see of a row: the unit of norms alone."""

    variance: Array


class Tuned(NamedTuple):
    """A fine-tuned model's step, and what it closes over."""

    step: Traced
    closed_over: list[Array]


@dataclasses.dataclass(frozen=True)
class ScanSteps:
    """F_i(x) = step(x, xs_i). single: the carry is one sample, with an axis of length 1 before it in the loop.

    Where the window's devices hold their own rows, xs is a device's part of them.
    """

    window: Window
    step: Traced
    closed_over: list[Array]
    xs: PyTree
    single: bool
    tuned: Tuned | None
    microbatch: int | None = None

    @property
    def num_steps(self) -> int:
        return self.window.num_steps

    @property
    def depth(self) -> int:
        return 0

    @property
    def recurrent(self) -> PyTree:
        return self.step.recurrent

    def edge(self, first: PyTree) -> None:
        return None

    def emits(self, first: PyTree) -> PyTree:
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((self.num_steps, *leaf.shape), leaf.dtype), self.step.outputs
        )

    def rows(self, place: Place) -> Plain:
        return Plain(jnp.ones((place.row.shape[0], 1)))

    def evaluate(self, rows: Plain, x: PyTree, place: Place, share: Array | None, edge: Array | None) -> Evaluation:
        def at_once(carry: PyTree, x: PyTree, share: Array | None) -> Any:
            held, tuned_held = self.window.axis.afresh((self.closed_over, self.tuned and self.tuned.closed_over), carry)
            base = lambda: _over_rows(self.step, held, carry, x, self.single)  # noqa: E731
            if self.tuned is None or share is None:
                return base()
            return self._blend(base, self.tuned._replace(closed_over=tuned_held), carry, x, share)

        def run(*rows: PyTree) -> Any:
            return in_chunks(at_once, self.microbatch, *rows)

        new, emitted = self.window.axis.map_rows(run, x, self.window.shared(self.xs, place), share)
        return Evaluation(new, None, emitted)

    def _blend(self, base: Any, tuned: Tuned, carry: PyTree, x: PyTree, share: Array) -> Any:
        """(1 - lambda) step + lambda tuned step, two calls."""
        new, emitted = base()
        other, _ = _over_rows(tuned.step, tuned.closed_over, carry, x, self.single)
        # Selected, not only summed: a NaN of the fine-tuned model must not reach rows that have left it.
        blended = jax.tree.map(lambda a, b: (1 - _like(share, a)) * a + _like(share, a) * b.astype(a.dtype), new, other)
        return where(share == 0, new, blended), emitted

    def preview(self, rows: Any, x: PyTree, memory: Array | None, at: Array, best: PyTree) -> PyTree:
        return best


def one(step: Traced, closed_over: list[Array], carry: PyTree, x: PyTree, single: bool) -> tuple[PyTree, PyTree]:
    """One call, on a carry as the loop holds it."""
    if not single:
        return step(closed_over, carry, x)
    new, y = step(closed_over, jax.tree.map(lambda leaf: leaf[0], carry), x)
    return jax.tree.map(lambda leaf: leaf[None], new), y


def _over_rows(step: Traced, closed_over: list[Array], carry: PyTree, x: PyTree, single: bool) -> Any:
    return jax.vmap(lambda carry, x: one(step, closed_over, carry, x, single))(carry, x)


def _like(mask: Array, x: Array) -> Array:
    return mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)).astype(x.dtype)


def cheaper(
    step: Traced, closed_over: list[Array], first: PyTree, xs: PyTree, single: bool, length: int
) -> tuple[PyTree, PyTree]:
    """The trajectory `[T + 1, B, ...]` of a cheaper step, one after the other, and the slopes `[T, B]` of its leaves.

    A slope is the mean of the derivative's diagonal, <v, (dF/dx) v> / <v, v> for one draw of signs v (Hutchinson).
    """
    structure: Any
    leaves, structure = jax.tree.flatten(first)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    signs = [jax.random.rademacher(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]
    probes = structure.unflatten(signs)

    def body(carry: PyTree, x: PyTree) -> tuple[PyTree, tuple[PyTree, PyTree]]:
        held = vary_like(probes, carry)
        new, tangent = jax.jvp(lambda carry: one(step, closed_over, carry, x, single)[0], (carry,), (held,))
        slope = jax.tree.map(lambda v, t: jnp.mean(v * t, axis=tuple(range(1, v.ndim))), held, tangent)
        return new, (new, slope)

    _, (states, slopes) = lax.scan(body, vary_like(first, (first, xs, closed_over)), xs, length=length)
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, states), slopes
