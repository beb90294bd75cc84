"""The two calls that users make."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from pcm_jax import checks
from pcm_jax.parallel import Executor, single
from pcm_jax.priors import GaussianPrior
from pcm_jax.recurrence import Certificate, Linearization, LoopConfig, Window, defect_sum, differentiable, secant
from pcm_jax.recurrence.validate import check_loop
from pcm_jax.results import SampleOutput
from pcm_jax.sampling import sequential
from pcm_jax.sampling.call import Rest, TableCall, output
from pcm_jax.sampling.callables import check_switch
from pcm_jax.sampling.network import count_rows, draw_step_noise
from pcm_jax.sampling.validate import check_common, check_first_guess, check_microbatch, check_prior
from pcm_jax.solvers import Solver
from pcm_jax.switching import Adapter, Switch
from pcm_jax.types import Array, ArrayLike, Cond, ModelFn, Params


def sample_sequential(
    model_fn: ModelFn,
    params: Params,
    noise: ArrayLike,
    solver: Solver,
    *,
    cond: Cond = None,
    key: Array | None = None,
    step_noise: ArrayLike | None = None,
    return_trajectory: bool = False,
) -> SampleOutput:
    """Run the solver's T rows one after the other: the oracle, and the baseline.

    Args:
        model_fn: `(params, x [B, ...], t [B], cond) -> prediction [B, ...]`. Its rows must not see each other (no
            batch norm in training mode): a round calls it on another number of rows than a step does.
        params: any pytree.
        noise: `[B, ...]`, the first state in units of `solver.start_scale` (1 in most tables); its dtype is what the
            network sees, states are at least float32.
        solver: a table from `pcm_jax.solvers`.
        cond: None or a pytree with leading axis B; parts that all samples see, wrapped in `pcm_jax.Shared`, have none
            and are not repeated.
        key: draws the step noise of a stochastic solver, one draw for each absolute step and sample.
        step_noise: that noise itself, `[T, B, ...]`, instead of a key. A deterministic solver reads neither.
        return_trajectory: also return all states, `[T + 1, B, ...]`.

    Raises:
        ValueError: arguments that do not fit, before anything is traced.
    """
    checks.flag("return_trajectory", return_trajectory)
    check_common(model_fn, params, noise, solver, cond, key, step_noise)
    noise, state, solver, z = _prepare(noise, solver, key, step_noise)
    return _sequential(model_fn, noise.dtype, return_trajectory, params, state, solver, cond, z)


def sample_picard(
    model_fn: ModelFn,
    params: Params,
    noise: ArrayLike,
    solver: Solver,
    *,
    cond: Cond = None,
    key: Array | None = None,
    step_noise: ArrayLike | None = None,
    window: int | None = None,
    microbatch: int | None = None,
    tol: float = 1e-2,
    max_rounds: int | None = None,
    linearization: Linearization = secant(),  # noqa: B008 - frozen
    certificate: Certificate = defect_sum(),  # noqa: B008 - frozen
    init: ArrayLike | None = None,
    prior: GaussianPrior | None = None,
    adapter: Adapter | None = None,
    switch: Switch | None = None,
    executor: Executor = single(),  # noqa: B008 - frozen
    preview: Sequence[int] | None = None,
    return_trajectory: bool = False,
    return_rounds: bool = False,
    stats: Literal["counts", "full"] = "counts",
    throw: bool = False,
) -> SampleOutput:
    """The same sample as `sample_sequential`, in rounds that evaluate `window` steps in one batched network call.

    Args:
        model_fn, params, noise, solver, cond, key, step_noise: as for `sample_sequential`. What is differentiated
            comes in through params, noise, cond or step_noise, not through a closure of model_fn.
        window: W, steps evaluated at once, 1..T. None is all T.
        microbatch: network rows of one call, at least 1 (2 under guidance). A round's rows then go through the network
            in several calls, one after the other, to the same results: for memory, or where a large call costs more
            than two small ones. None is one call for all. `pcm_jax.tune` chooses window and microbatch.
        tol: bound on the RMS error of each sample against the sequential one, in units of the data (of the state, for
            EDM and flow tables). 0 waits until nothing changes. It does not count the rounding of the arithmetic: a
            network's call on another number of rows rounds otherwise, so that both samplers differ by about
            eps(network) + sqrt(T) eps(state), relative to the data (1e-6 in float32, 1e-3 with TF32 matrix products,
            8e-3 in bfloat16). A tol below that means nothing and warns.
        max_rounds: give up (result MAX_ROUNDS) after this many, at most 100 T. T, the default, always suffices for the
            base model; with an adapter, which may hold rows back, the default is 2 T.
        linearization: slope of the round, `secant()` or `identity()` (plain Picard) among others.
        certificate: what `tol` means, and the rule that accepts states: `pcm_jax.certificates.defect_sum()` bounds the
            error; `last_change()` is ParaDiGMS's rule, which does not.
        init: a first guess, a trajectory `[T + 1, B, ...]`, such as `pcm_jax.guess.from_data` makes from a guess of
            the sample. It changes the rounds, never the fixed point.
        prior: a Gaussian fit of the model's samples, such as `pcm_jax.pretrained.load("digits").prior`. This sampler's
            trajectory under it is the first guess, and its Jacobian the slope of rows without history; no network call
            is added. Labels or observations in `cond` choose its component, `guidance.classifier_free` counts; for
            other conditioning pass `prior.pooled()`. Not together with init.
        adapter: a fine-tuned model (PCM) beside the base model: `pcm_jax.switching.ParameterSpace` (LoRA, one call) or
            `FeatureSpace` (any two models, two calls).
        switch: the adapter's share lambda in every row of every round, from `pcm_jax.switching` or any hashable
            function of `SwitchInput`. States are accepted under lambda = 0 alone, so a bad adapter or switch costs
            rounds and never exactness. With `max_rounds=k` it is the quality mode: the best sample after k rounds,
            marked MAX_ROUNDS, with what is known of its error; see `preview` too.
        executor: where the window's rows run: `pcm_jax.parallel.single()`, `pmap()`, `shard_map(mesh)`,
            `constrained(mesh)`, `inside(axis)`.
        preview: for runs that end before they converge: the row, 0..T - 1, whose data prediction is the sample after 1,
            2, .. rounds (the last one for all later rounds); T, the default, is the last state. The network takes out
            of a noisy state what is still wrong in it, and no call is added. Adapters come with measured rows;
            `pcm_jax.training.measure_preview` measures them; such rows know their solver, and another one is an error.
        return_trajectory: also return all states, `[T + 1, B, ...]`.
        return_rounds: also return the sample as it stood after each round, `[max_rounds, B, ...]`: error curves, and
            what fewer rounds would have given.
        stats: "full" also reports every round's bound and accepted states (`stats.bounds`, `stats.accepted`), as
            return_rounds does; "counts" carries nothing that grows with max_rounds.
        throw: raise RuntimeError unless every sample converged. Only outside of traced code.

    Returns:
        `SampleOutput`. `result` CONVERGED certifies that every state was accepted under the base model, and then
            `error_bound` is at most tol.
        `jax.grad`, `jax.jvp` and derivatives of these go through the fixed point of `sample` and `trajectory`
        (recurrence/gradient.py): they are the sequential sampler's, and take T Jacobian products one after the other.
        No derivative flows through `iterates`, bounds or counts.

    Raises:
        ValueError: arguments that do not fit, before anything is traced.

    References: Picard iteration, arXiv 2305.16317; consistency training, arXiv 2503.19731.
    """
    for name, value in (("return_trajectory", return_trajectory), ("return_rounds", return_rounds), ("throw", throw)):
        checks.flag(name, value)
    check_common(model_fn, params, noise, solver, cond, key, step_noise)
    steps = len(solver)
    window = steps if window is None else window
    max_rounds = steps * (1 if adapter is None else 2) if max_rounds is None else max_rounds
    check_loop(
        steps,
        noise,
        solver,
        window=window,
        tol=tol,
        max_rounds=max_rounds,
        linearization=linearization,
        certificate=certificate,
        executor=executor,
        stats=stats,
    )
    check_microbatch(model_fn, microbatch)
    check_first_guess(solver, noise, init, preview)
    check_prior(prior, solver, noise, cond, init)
    check_switch(
        solver, model_fn, params, noise, cond, adapter=adapter, switch=switch, window=window, max_rounds=max_rounds
    )
    noise, state, solver, z = _prepare(noise, solver, key, step_noise)
    guess = None if init is None else jnp.asarray(init, state.dtype)
    shown = None if preview is None else tuple(int(row) for row in preview)
    config = LoopConfig(
        Window(int(window), steps),
        int(max_rounds),
        linearization,
        certificate,
        switch,
        return_trajectory=return_trajectory,
        return_rounds=return_rounds,
        report=return_rounds or stats == "full",
        preview=shown,
        depth=solver.depth,
    )
    rows = None if microbatch is None else int(microbatch)
    call = TableCall(model_fn, noise.dtype, config, executor, rows)
    try:
        rest = Rest(adapter, guess, jnp.asarray(tol, state.dtype), prior)
        out = output(call, differentiable(call, (params, cond), (solver, z), state, rest))
    except jax.errors.UnexpectedTracerError as error:
        raise ValueError(
            "model_fn closes over values that are being differentiated; pass them in params or cond"
        ) from error
    return out.checked(throw)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _sequential(
    model_fn: ModelFn,
    dtype: Any,
    return_trajectory: bool,
    params: Params,
    noise: Array,
    solver: Solver,
    cond: Cond,
    step_noise: Array | None,
) -> SampleOutput:
    out = sequential.run(model_fn, params, noise, solver, cond, step_noise, dtype, return_trajectory)
    return count_rows(model_fn, out)


def _prepare(
    noise: ArrayLike, solver: Solver, key: Array | None, step_noise: ArrayLike | None
) -> tuple[Array, Array, Solver, Array | None]:
    """Noise as given, the first state, the table and the step noise: float32 at least."""
    noise = jnp.asarray(noise)
    dtype = jnp.promote_types(noise.dtype, jnp.float32)
    z = None if step_noise is None or not solver.stochastic else jnp.asarray(step_noise, dtype)
    if solver.stochastic and z is None:
        z = _draw(key, len(solver), noise.shape, dtype)
    # The scale is spent: tables that differ in it alone share what is compiled.
    return noise, solver.first(noise.astype(dtype)), dataclasses.replace(solver, start_scale=1.0), z


_draw = jax.jit(draw_step_noise, static_argnums=(1, 2, 3))
