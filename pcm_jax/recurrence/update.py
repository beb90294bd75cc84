"""What a round makes of its steps: sums over the states, a slope for every row, and one affine scan of corrections."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from pcm_jax.parallel import WindowAxis
from pcm_jax.recurrence.kernels import segmented_scan, sums
from pcm_jax.recurrence.linearization import History, Linearization, Sums, known
from pcm_jax.types import Array, PyTree


def same_operator(history: History | None, before: Array | None, share: Array) -> History | None:
    """History where the same blend of models evaluated the row in both rounds; `before`: lambda of the last round.

    A secant through two operators is the derivative of neither (it cost rounds wherever it was tried). Rows that have
    just come back to the base model are marked: their slope is the one that the solver knows without history.
    """
    if history is None or before is None:
        return history
    return history._replace(valid=history.valid & (before == share), returned=(before > 0) & (share == 0))


def summed(x: Array, follows: Array, step: Array, moved: Array | None, changed: Array | None) -> Sums:
    """The sums of one leaf, in float32 at least. x, follows: states, those that follow; step: F(x); `[W, B, ...]`."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    missed = (step - follows).astype(wide)
    before = x.astype(wide)
    terms = [missed * missed, before * before, (~jnp.isfinite(step)).astype(wide)]
    if moved is not None and changed is not None:
        moved, changed = moved.astype(wide), changed.astype(wide)
        terms += [moved * moved, changed * changed, changed * moved]
    return Sums(*sums(tuple(terms)))


def linearise(
    linearization: Linearization,
    rows: Any,
    x: PyTree,
    follows: PyTree,
    step: PyTree,
    *,
    history: History | None = None,
    measured: list[Sums] | None = None,
    first_slope: PyTree = None,
    share: Array | None = None,
    recurrent: PyTree = None,
    axis: WindowAxis = WindowAxis(),  # noqa: B008 - frozen
) -> tuple[PyTree, Array | None]:
    """The states that a round makes of those that follow, `[W, B, ...]`: for every leaf a slope of its own and a scan.

    Args:
        rows: what the linearization may look at.
        x: states `[W, B, ...]`; the first is known. follows: the state after each. step: F(x), `[W, B, ...]`.
        history: the round before.
        measured: `summed` of every leaf; None: they are found here.
        first_slope: `[W, B]` for every leaf, the prior's, for rows without history.
        share: lambda `[W, B]`.
        recurrent: which leaves depend on their own past; the others' slope is 0.
        axis: where devices hold their own rows, W are these.

    Returns:
        The states, and the largest slope of a row `[W, B]`; None of a linearization that keeps within the gain.
    """
    if share is not None and first_slope is not None:
        # What the fine-tuned model is taught are drifts: its rows add to whatever state they are reached from.
        first_slope = jax.tree.map(lambda each: jnp.where(share > 0, 1.0, each), first_slope)

    structure: Any = jax.tree.structure(x)
    leaves, nexts, steps = (jax.tree.leaves(each) for each in (x, follows, step))
    count = structure.num_leaves
    own = [True] * count if recurrent is None else jax.tree.leaves(recurrent)
    first = [None] * count if first_slope is None else jax.tree.leaves(first_slope)
    seen: list[History | None] = [None] * count
    if history is not None:
        past = list(zip(jax.tree.leaves(history.moved), jax.tree.leaves(history.changed), strict=True))
        sums = measured or [
            summed(*each, *was) for each, was in zip(zip(leaves, nexts, steps, strict=True), past, strict=True)
        ]
        gain = _joint_gain(leaves, sums) if count > 1 else None
        seen = [
            history._replace(moved=moved, changed=changed, sums=found, gain=gain)
            for (moved, changed), found in zip(past, sums, strict=True)
        ]
    made, slopes = [], []
    for each, after, f, recurs, prior, before in zip(leaves, nexts, steps, own, first, seen, strict=True):
        if not recurs:
            made.append(f)
            continue
        slopes.append(linearization.slope(rows, each, f, before, prior))
        made.append(solve(after, f, slopes[-1], signed=getattr(linearization, "signed", True), axis=axis))
    steepest = None
    if slopes and not getattr(linearization, "within_gain", False):
        steepest = functools.reduce(jnp.maximum, [jnp.abs(slope) for slope in slopes])
    return structure.unflatten(made), steepest


def _joint_gain(leaves: list[Array], sums: list[Sums]) -> Array:
    """|F(x) - F'(x')| / |x - x'| `[W, B]` of all leaves, each in its root mean square."""
    sizes = [math.prod(leaf.shape[2:]) for leaf in leaves]
    moved = functools.reduce(jnp.add, [known(each.moved) / size for each, size in zip(sums, sizes, strict=True)])
    changed = functools.reduce(jnp.add, [known(each.changed) / size for each, size in zip(sums, sizes, strict=True)])
    return jnp.sqrt(changed / jnp.where(moved > 0, moved, 1.0))


def solve(
    follows: Array,
    step: Array,
    slope: Array,
    *,
    signed: bool = True,
    axis: WindowAxis = WindowAxis(),  # noqa: B008 - frozen
) -> Array:
    """y_{w+1} = F_w + A_w (y_w - x_w) for the window's rows, y_0 = x_0: one affine scan (kernels.py).

    Args:
        follows: states x_1 .. x_W, `[W, B, ...]`.
        step: F_w(x_w), `[W, B, ...]`.
        slope: A_w `[W, B]`. signed: False promises that none is negative.
        axis: whose devices hold the rows.

    Returns:
        y_1 .. y_W, `[W, B, ...]`. Numbers of a step that are not finite stay as they are and reach no other row.

    The scan runs over the corrections y - x, which vanish at the fixed point, and not over the states: what is stored
    is F_w(x_w) plus a small number, so round-off does not pile up along the trajectory.
    """
    defect = step - follows
    slope = jnp.where(jnp.isfinite(slope), slope, 0)
    return step + segmented_scan(axis, slope, jnp.where(jnp.isfinite(defect), defect, 0), signed=signed)
