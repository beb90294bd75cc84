"""`jax.lax.scan` with the report of `pcm.scan`: the oracle, the baseline, and what a plan runs where it is faster."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from pcm_jax import checks
from pcm_jax.results import ResultCode, ScanOutput, Stats
from pcm_jax.scanning import validate
from pcm_jax.scanning.trace import Step, Traced, strong, trace
from pcm_jax.types import Array, PyTree


def scan_sequential(
    step: Step,
    init: PyTree,
    xs: PyTree = None,
    *,
    length: int | None = None,
    batch_axis: int | None = None,
    return_trajectory: bool = False,
) -> ScanOutput:
    """The T steps one after the other: what `pcm.scan` returns for these arguments, with rounds = T and a bound of 0.

    Args:
        step, init, xs, length, batch_axis, return_trajectory: as for `pcm_jax.scan`.

    Raises:
        ValueError: arguments that do not fit, before anything is compiled.
    """
    checks.flag("return_trajectory", return_trajectory)
    validate.check_step(step, "step")
    validate.check_carry(init, batch_axis)
    steps = validate.check_length(xs, length)
    init, xs = jax.tree.map(strong, (init, xs))
    traced, closed_over, carry = trace(step, init, jax.tree.map(lambda leaf: leaf[0], xs))
    last, ys, states = _compiled(traced, steps, return_trajectory)(closed_over, carry, xs)
    finite = functools.reduce(
        jnp.logical_and,
        (
            jnp.all(jnp.isfinite(leaf), tuple(range(batch_axis is not None, leaf.ndim)))
            for leaf in jax.tree.leaves(last)
        ),
    )
    counts = jnp.full(finite.shape, steps, jnp.int32)
    return ScanOutput(
        carry=last,
        ys=ys,
        result=jnp.where(finite, ResultCode.CONVERGED, ResultCode.NONFINITE).astype(jnp.int32),
        error_bound=jnp.zeros(finite.shape),
        stats=Stats(rounds=counts, evaluations=counts, padded_evaluations=jnp.int32(0)),
        trajectory=states,
    )


@functools.lru_cache(maxsize=32)
def _compiled(step: Traced, steps: int, return_trajectory: bool) -> Callable[..., tuple[PyTree, PyTree, PyTree]]:
    def run(closed_over: list[Array], first: PyTree, xs: PyTree) -> tuple[PyTree, PyTree, PyTree]:
        def body(carry: PyTree, x: PyTree) -> tuple[PyTree, tuple[PyTree, PyTree]]:
            new, y = step(closed_over, carry, x)
            return new, (y, new if return_trajectory else None)

        last, (ys, states) = jax.lax.scan(body, first, xs, length=steps)
        whole = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, states) if return_trajectory else None
        return last, ys, whole

    return jax.jit(run)
