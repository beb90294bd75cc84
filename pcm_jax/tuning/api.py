"""The two calls that users make."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from pcm_jax import checks
from pcm_jax.parallel import Executor, single
from pcm_jax.priors import GaussianPrior
from pcm_jax.recurrence import Certificate, Linearization, defect_sum, secant
from pcm_jax.sampling import sample_picard
from pcm_jax.scanning import scan
from pcm_jax.scanning.trace import Step, strong, trace
from pcm_jax.scanning.validate import check_length
from pcm_jax.solvers import Solver
from pcm_jax.switching import Adapter, Switch
from pcm_jax.tuning.measure import DeviceMeter, Subject
from pcm_jax.tuning.plan import Plan
from pcm_jax.tuning.progress import stages
from pcm_jax.tuning.search import POINTS, WINDOWS, search
from pcm_jax.tuning.subjects import ScanSubject, TableSubject
from pcm_jax.types import Array, ArrayLike, Cond, ModelFn, Params, PyTree

DRAWS = 3
"""Noises whose rounds are counted: the caller's, and others, because a window that suits one need not suit the next."""


def tune(
    model_fn: ModelFn,
    params: Params,
    noise: ArrayLike,
    solver: Solver,
    *,
    cond: Cond = None,
    key: Array | None = None,
    step_noise: ArrayLike | None = None,
    tol: float = 1e-2,
    linearization: Linearization = secant(),  # noqa: B008 - frozen
    certificate: Certificate = defect_sum(),  # noqa: B008 - frozen
    prior: GaussianPrior | None = None,
    adapter: Adapter | None = None,
    switch: Switch | None = None,
    executor: Executor = single(),  # noqa: B008 - frozen
    memory: int | None = None,
    seconds: float = 30.0,
    progress: bool = True,
) -> Plan:
    r"""Measure on this device which window samples fastest, or that the sequential sampler does.

    The network is timed on a few numbers of rows, the sequential sampler, and a few windows with their rounds;
    from these follow the seconds of every window,

        seconds(W) = rounds(W) (call(rows(W)) + rest(W)),

    and the best three are timed beside the full window and the sequential sampler, in turn. Where rows cost in a batch
    what they cost alone, as on a few CPU cores, no window can win, and none is measured.

    Args:
        model_fn, params, noise, solver, cond, key, step_noise, tol, linearization, certificate, prior, adapter, switch,
            executor: as for `sample_picard`, and as they will be used: the plan holds for this batch size, these
            conditions and this tolerance. Other noises than the given one are drawn besides.
        memory: bytes that a program may ask of a device, its parameters included. None: what the device says that it
            has, if it does. Windows that ask for more call the network in smaller parts, or are left out.
        seconds: after which nothing new is begun, compilation included. The network on two numbers of rows and one
            window are measured whatever it is, unless one of them already decides.
        progress: show a bar (rich, where that is installed).

    Returns:
        A `Plan`; `plan.sample(model_fn, params, noise, solver, ..)` runs what it found.

    Raises:
        ValueError: arguments that do not fit, before anything is measured.

    Example:
        plan = pcm_jax.tune(model.model_fn, model.params, noise, solver, cond=labels, prior=model.prior)
        print(plan.advice)
    """
    devices = _check(memory, seconds, progress, executor)
    options: dict[str, Any] = {"linearization": linearization, "certificate": certificate, "switch": switch}
    options["executor"] = executor
    data: dict[str, Any] = {"cond": cond, "key": key, "step_noise": step_noise, "prior": prior, "adapter": adapter}
    # All checks of the sampler, and none of its work.
    jax.eval_shape(functools.partial(sample_picard, model_fn, params, noise, solver, tol=tol, **data, **options))
    subject = TableSubject(
        model_fn=model_fn,
        solver=solver,
        held=(params, cond, prior, adapter),
        draws=_draws(jnp.asarray(noise), key if solver.stochastic else None, step_noise if solver.stochastic else None),
        tol=float(tol),
        options=options,
    )
    return _tuned(subject, devices, memory, seconds, progress)


def tune_scan(
    step: Step,
    init: PyTree,
    xs: PyTree = None,
    *,
    length: int | None = None,
    batch_axis: int | None = None,
    tol: float = 1e-2,
    linearization: Linearization = secant(),  # noqa: B008 - frozen
    certificate: Certificate = defect_sum(),  # noqa: B008 - frozen
    guess: PyTree | Step | None = None,
    adapter_step: Step | None = None,
    switch: Switch | None = None,
    executor: Executor = single(),  # noqa: B008 - frozen
    memory: int | None = None,
    seconds: float = 30.0,
    progress: bool = True,
) -> Plan:
    """Measure on this device which window of `pcm_jax.scan` is fastest, or that `jax.lax.scan` is.

    Rows are calls of the step on the whole carry, and rounds are counted on these xs alone: all randomness is theirs.

    Args:
        step, init, xs, length, batch_axis, tol, linearization, certificate, guess, adapter_step, switch, executor: as
            for `pcm_jax.scan`.
        memory, seconds, progress: as for `pcm_jax.tune`.

    Returns:
        A `Plan`; `plan.scan(step, init, xs, ..)` runs what it found.

    Raises:
        ValueError: arguments that do not fit, before anything is measured.
    """
    devices = _check(memory, seconds, progress, executor)
    options: dict[str, Any] = {"linearization": linearization, "certificate": certificate, "switch": switch}
    options |= {"executor": executor, "adapter_step": adapter_step}
    shape: dict[str, Any] = {"length": length, "batch_axis": batch_axis, "tol": tol, "guess": guess}
    jax.eval_shape(functools.partial(scan, step, init, xs, **shape, **options))
    init, xs = jax.tree.map(strong, (init, xs))
    traced, closed_over, _ = trace(step, init, jax.tree.map(lambda leaf: leaf[0], xs))
    if callable(guess):
        options["guess"], guess = guess, None
    subject = ScanSubject(
        traced=traced,
        held=(xs, closed_over, guess),
        draws=(init,),
        steps=check_length(xs, length),
        batch_axis=batch_axis,
        tol=float(tol),
        options=options,
    )
    return _tuned(subject, devices, memory, seconds, progress)


def _check(memory: Any, seconds: Any, progress: Any, executor: Any) -> int:
    """Arguments of the tuner itself; returns the devices that a window is spread over."""
    if memory is not None:
        checks.whole("memory", memory, hint="bytes that a program may ask of a device; None is what it has")
    checks.number("seconds", seconds, 0, above=True, hint="of measuring, compilation included")
    checks.flag("progress", progress)
    devices = getattr(executor, "num_devices", 1)
    if devices is None:
        raise ValueError(
            "inside(axis) runs in a program of yours, which cannot be timed from here: tune with "
            "pcm_jax.parallel.pmap() or shard_map() of as many devices, and pass plan.options on"
        )
    return int(devices)


def _draws(noise: Array, key: Array | None, step_noise: ArrayLike | None) -> tuple[Any, ...]:
    """(noise, key, step noise) of the caller, and fresh ones; step noise that is given belongs to its samples."""
    draws = [(noise, key, step_noise)]
    for index in range(1, DRAWS):
        first, steps = jax.random.split(jax.random.fold_in(jax.random.key(0), index))
        fresh = jax.random.normal(first, noise.shape, noise.dtype)
        draws.append((fresh, None if key is None else steps, step_noise))
    return tuple(draws)


def _tuned(subject: Subject, devices: int, memory: int | None, seconds: float, progress: bool) -> Plan:
    if memory is None:
        memory = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    with stages(POINTS + WINDOWS + 2, progress) as say:
        return search(DeviceMeter(subject, devices, seconds), memory, say)
