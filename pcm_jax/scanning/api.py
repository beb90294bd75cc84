"""`pcm.scan`: `jax.lax.scan` over anybody's step function, in parallel rounds."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp

from pcm_jax.parallel import Executor, InsideAxis, single, vary_like
from pcm_jax.recurrence import (
    Certificate,
    Linearization,
    LoopConfig,
    Solved,
    Window,
    defect_sum,
    differentiable,
    secant,
)
from pcm_jax.recurrence.callables import check_schedule
from pcm_jax.recurrence.validate import check_loop
from pcm_jax.results import ScanOutput
from pcm_jax.scanning import validate
from pcm_jax.scanning.call import Rest, ScanCall
from pcm_jax.scanning.steps import Plain
from pcm_jax.scanning.trace import Step, Traced, trace
from pcm_jax.switching import Switch
from pcm_jax.types import Array, PyTree


def scan(
    step: Step,
    init: PyTree,
    xs: PyTree = None,
    *,
    length: int | None = None,
    batch_axis: int | None = None,
    window: int | None = None,
    tol: float = 1e-2,
    max_rounds: int | None = None,
    linearization: Linearization = secant(),  # noqa: B008 - frozen
    certificate: Certificate = defect_sum(),  # noqa: B008 - frozen
    guess: PyTree | Step | None = None,
    adapter_step: Step | None = None,
    switch: Switch | None = None,
    executor: Executor = single(),  # noqa: B008 - frozen
    return_trajectory: bool = False,
    return_rounds: bool = False,
    stats: Literal["counts", "full"] = "counts",
    throw: bool = False,
) -> ScanOutput:
    r"""The carry that `jax.lax.scan(step, init, xs)` ends with, in rounds that run `window` steps in one batched call.

        x_{i+1} = step(x_i, xs_i),   i = 0 .. T - 1

    Any sampling loop that is a `lax.scan` with fixed randomness will do: noises, keys and times are read from xs. The
    step is vmapped over the window's rows; what it closes over, parameters and conditioning, is not repeated.

    It pays where steps change the carry little and a batched call costs little more than one: denoising loops of 20
    steps and more. `sample_picard` needs fewer rounds where a sampler is in the solver table: there the history of a
    multistep method is a neighbouring row of the same round, while a history in the carry is one round late.

    Args:
        step: `(carry, x) -> carry` or `(carry, y)`, a pure function of its arguments and of arrays it closes over.
        init: the first carry, an array or a pytree of floating-point leaves.
        xs: a pytree of leading axis T, as in `lax.scan`; None with `length`.
        length: T.
        batch_axis: 0 says that the first axis of every leaf of the carry holds independent samples: each has a slope, a
            bound, a front and a result of its own, and a window smaller than T stands where the slowest of them is,
            because one call of the step serves them all. None: the carry is one sample. `jax.vmap` of that gives each
            sample a window of its own too.
        window: W, steps evaluated at once, 1..T. None is all T.
        tol: bound on the RMS error of the returned carry, for each sample; of several leaves the root of their sum of
            squares, so that no leaf's is larger. 0 waits until nothing changes. See `sample_picard` for what rounding
            adds.
        max_rounds: give up (result MAX_ROUNDS) after this many. Default T, which always suffices with all rows in the
            window; 2 T with an adapter.
        linearization: slope of the round, `pcm_jax.linearization.secant()`, `identity()` or `constant(value)`, one for
            each leaf and sample. Leaves whose next value does not read them, such as a last prediction or a noise
            level, are found from the step's program: their slope is 0.
        certificate: what `tol` means: `pcm_jax.certificates.defect_sum()` or `last_change()`.
        guess: a first guess: all carries, leaves `[T + 1, ...]` with init first, or a cheaper step function that is
            scanned one step after the other, such as the same step with the network replaced by a constant. It changes
            the rounds, never the fixed point.
        adapter_step, switch: a fine-tuned model's step and its share lambda in every row of every round, from
            `pcm_jax.switching`; carries are accepted under lambda = 0 alone.
        executor: where the window's rows run: `pcm_jax.parallel.single()`, `pmap()`, `shard_map(mesh)`,
            `constrained(mesh)`, `inside(axis)`.
        return_trajectory: also return all carries, leaves `[T + 1, ...]`.
        return_rounds: also return the carry as it stood after each round, leaves `[max_rounds, ...]`.
        stats: "full" also reports every round's bound and accepted states (`stats.bounds`, `stats.accepted`), as
            return_rounds does; "counts" carries nothing that grows with max_rounds.
        throw: raise RuntimeError unless every sample converged. Only outside of traced code.

    Returns:
        `ScanOutput`. Derivatives of any order of carry and ys with respect to init, xs and arrays that the step closes
        over are `lax.scan`'s.

    Raises:
        ValueError: arguments that do not fit, or a step that changes the carry's structure, shape or dtype or is
            another program when traced twice.

    Example:
        >>> step = lambda x, t: x + (denoise(x, t[0]) - x) * (1 - t[1] / t[0])
        >>> out = pcm_jax.scan(step, x, (times[:-1], times[1:]), batch_axis=0)  # was: jax.lax.scan
    """
    validate.check_step(step, "step")
    validate.check_carry(init, batch_axis)
    steps = validate.check_length(xs, length)
    window = steps if window is None else window
    max_rounds = steps * (1 if adapter_step is None else 2) if max_rounds is None else max_rounds
    one_sample = batch_axis is None
    init, xs = jax.tree.map(_strong, (init, xs))
    first = jax.tree.map(lambda leaf: leaf[None], init) if one_sample else init
    validate.check_linearization(linearization)
    check_loop(
        steps,
        first,
        Plain(jnp.ones(())),
        window=window,
        tol=tol,
        max_rounds=max_rounds,
        linearization=linearization,
        certificate=certificate,
        executor=executor,
        stats=stats,
    )
    validate.check_pair(adapter_step, switch)
    if switch is not None:
        check_schedule(switch, steps, window, max_rounds)
    x = jax.tree.map(lambda leaf: leaf[0], xs)
    main, theta, carry = trace(step, init, x)
    first = vary_like(first, carry)
    # Inside somebody's mapped axis a device sees rows of its own: to JAX a program of another type.
    mine = executor.own((carry, x)) if isinstance(executor, InsideAxis) else (carry, x)
    spread = trace(step, *mine)[0]
    tuned, tuned_over = _other(adapter_step, mine, "adapter_step")
    cheap, cheap_over = _other(guess if callable(guess) else None, (carry, x), "guess")
    states = None
    if guess is not None and cheap is None:
        validate.check_trajectory(guess, init, steps)
        states = jax.tree.map(lambda leaf, like: jnp.asarray(leaf, like.dtype), guess, init)
        states = jax.tree.map(lambda leaf: leaf[:, None], states) if one_sample else states
    config = LoopConfig(
        Window(int(window), steps, together=True),
        int(max_rounds),
        linearization,
        certificate,
        switch,
        return_trajectory=return_trajectory,
        return_rounds=return_rounds,
        report=return_rounds or stats == "full",
        return_emitted=main.has_output,
    )
    call = ScanCall(main, spread, tuned, cheap, one_sample, config, executor)
    dtype = functools.reduce(jnp.promote_types, (leaf.dtype for leaf in jax.tree.leaves(init)), jnp.float32)
    solved = differentiable(call, theta, xs, first, Rest(jnp.asarray(tol, dtype), states, cheap_over, tuned_over))
    return _output(solved, one_sample).checked(throw)


def _output(solved: Solved, one_sample: bool) -> ScanOutput:
    """Without the loop's batch axis where the carry is one sample."""

    def drop(tree: PyTree, axis: int = 0) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.squeeze(leaf, axis), tree) if one_sample else tree

    stats = solved.stats
    return ScanOutput(
        carry=drop(solved.last),
        ys=solved.emitted,
        result=drop(solved.result),
        error_bound=drop(solved.error_bound),
        stats=dataclasses.replace(
            stats,
            rounds=drop(stats.rounds),
            evaluations=drop(stats.evaluations),
            bounds=drop(stats.bounds, 1),
            accepted=drop(stats.accepted, 1),
        ),
        trajectory=drop(solved.trajectory, 1),
        iterates=drop(solved.iterates, 1),
    )


def _strong(leaf: Any) -> Array:
    """An array of a strong type, as a step returns it."""
    leaf = jnp.asarray(leaf)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    return jax.lax.convert_element_type(leaf, leaf.dtype)


def _other(step: Any, at: tuple[PyTree, PyTree], name: str) -> tuple[Traced | None, list[Array]]:
    if step is None:
        return None, []
    validate.check_step(step, name)
    found, closed_over, _ = trace(step, *at, name)
    return found, closed_over
