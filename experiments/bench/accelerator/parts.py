"""What is measured of the models that ship and of the paper's network: rows, samplers, plans, precisions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pcm_jax as pcm
from experiments.bench.accelerator.budget import Budget
from experiments.bench.accelerator.programs import Job, compile_all, in_turn
from experiments.bench.twice import two_rounds
from experiments.models.cases import Case, case
from pcm_jax.networks import by_name, linen
from pcm_jax.types import Array, Params

Keep = Callable[[list[dict[str, Any]]], None]
"""Puts rows of a part on record, at once."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """models: in the order of their importance. goals: those that are tuned and have figures. rows: of the bare call.

    batches, repeats: of the samplers. tune_seconds: of one plan. patience: seconds of one comparison's timings.
    """

    models: tuple[str, ...] = ("fashion", "emoji32", "digits", "pusht", "paper", "latent", "metaworld")
    goals: tuple[str, ...] = ("fashion", "emoji32", "digits", "pusht")
    precise: tuple[str, ...] = ("fashion", "emoji32", "digits")
    batches: tuple[int, ...] = (1, 16)
    rows: tuple[int, ...] = (1, 16, 100, 400, 1600)
    repeats: int = 9
    tune_seconds: float = 10.0
    patience: float = 3.0
    tol: float = 1e-2
    seed: int = 0


SMALL = Sizes(("digits",), ("digits",), ("digits",), (1,), (1, 8), 1, 0.1, 0.1)


def rows(sizes: Sizes, budget: Budget, keep: Keep) -> None:
    """Seconds of the bare network on so many rows, all calls of it in one program."""
    for name in sizes.models:
        with budget.item(f"{name}, rows") as time_left:
            if not time_left:
                continue
            subject = case(name, batch=1, seed=sizes.seed)
            programs = compile_all({str(count): _bare(subject, count) for count in sizes.rows})
            found = in_turn(programs, sizes.repeats, sizes.patience)
            keep(
                [{"model": name, "rows": int(count), "seconds": each.seconds / CALLS} for count, each in found.items()]
            )


CALLS = 8
"""Of the bare network in one program, each on what the one before made: what starting it costs is spread over them."""


def _bare(subject: Case, count: int) -> Job:
    x = jnp.resize(subject.noise, (count, *subject.noise.shape[1:]))
    cond = jax.tree.map(lambda leaf: jnp.resize(leaf, (count, *leaf.shape[1:])), subject.cond)
    times = jnp.resize(jnp.asarray(subject.solver.time, jnp.float32), (count,))

    def calls(params: Params, x: Array, times: Array, cond: Any) -> Array:
        # The times move too, or XLA would take their embedding out of the loop.
        return jax.lax.fori_loop(
            0, CALLS, lambda i, now: x + 1e-3 * subject.model_fn(params, now, times + 1e-6 * i, cond), x
        )

    return calls, (subject.params, x, times, cond), None


def methods(subject: Case, tol: float) -> dict[str, dict[str, Any]]:
    """Options of `sample_picard` for each way to sample; without a prior where none ships."""
    found: dict[str, dict[str, Any]] = {
        "Picard": {"linearization": pcm.linearization.identity()},
        "secant": {},
        "secant + prior": {"prior": subject.prior},
        "PCM": subject.adapted(),
    }
    if subject.prior is None:
        del found["secant + prior"]
    return {name: options | {"tol": tol} for name, options in found.items()}


def samplers(sizes: Sizes, budget: Budget, keep: Keep) -> None:
    """Every method beside the sequential sampler, in turn."""
    for batch in sizes.batches:
        for name in sizes.models:
            with budget.item(f"{name}, batch {batch}, samplers") as time_left:
                if not time_left:
                    continue
                subject = case(name, batch=batch, seed=sizes.seed)
                options = methods(subject, sizes.tol)
                jobs = {"sequential": job(subject, lambda case: case.sequential())}
                jobs |= {method: job(subject, _picard(how)) for method, how in options.items()}
                keep(compared(subject, jobs, sizes, {"batch": batch}))


def _picard(options: dict[str, Any]) -> Callable[[Case], pcm.SampleOutput]:
    return lambda case: case.picard(**options)


def job(subject: Case, sample: Callable[[Case], pcm.SampleOutput], precision: str | None = None) -> Job:
    """A sampler as a function of arrays."""

    def run(params: Params, noise: Array, step_noise: Array | None) -> pcm.SampleOutput:
        return sample(dataclasses.replace(subject, params=params, noise=noise, step_noise=step_noise))

    return run, (subject.params, subject.noise, subject.step_noise), precision


def compared(
    subject: Case,
    jobs: dict[str, Job],
    sizes: Sizes,
    about: dict[str, Any],
    options: dict[str, str] | None = None,
    twice: dict[str, Job] | None = None,
) -> list[dict[str, Any]]:
    """A row for each job; "sequential" is among them. options: of XLA. twice: jobs with two rounds in an iteration."""
    programs = compile_all(jobs, options)
    with two_rounds():
        programs |= compile_all(twice or {}, options)
    times = in_turn(programs, sizes.repeats, sizes.patience)
    reference, base = np.asarray(times["sequential"].out.sample), times["sequential"].seconds
    out = []
    for method, each in times.items():
        line = {"model": subject.name, "solver": subject.solver.name, "steps": len(subject.solver)} | about
        line |= {"method": method, "tol": sizes.tol} | outcome(each.out, reference)
        line |= {"seconds": each.seconds, "speedup": base / each.seconds, "repeats": each.repeats}
        line |= {"compile_seconds": programs[method].compile_seconds, "memory": programs[method].memory}
        if method == "PCM":
            line["adapter"] = "shipped" if subject.shipped is not None else "without training: what its rounds cost"
        out.append(line)
    return out


def outcome(out: pcm.SampleOutput, reference: np.ndarray) -> dict[str, Any]:
    """Rounds, true error and bound; `certified` is a share of the samples, rounding is not in it."""
    difference = np.asarray(out.sample, np.float64) - reference
    error = np.sqrt(np.mean(difference**2, axis=tuple(range(1, reference.ndim))))
    bound = float(np.max(out.error_bound))
    return {
        "rounds": int(np.max(out.stats.rounds)),
        "rounds_mean": float(np.mean(out.stats.rounds)),
        "worst_error": float(np.max(error)) if np.isfinite(error).all() else None,
        "error_bound": bound if np.isfinite(bound) else None,
        "certified": float(np.mean(out.converged)),
    }


def tuned(sizes: Sizes, budget: Budget, keep: Keep) -> None:
    """What `pcm_jax.tune` chooses, timed anew beside the sequential sampler."""
    order = [(name, batch) for batch in sizes.batches for name in sizes.goals]
    order += [(name, batch) for batch in sizes.batches for name in sizes.models if name not in sizes.goals]
    for name, batch in order:
        with budget.item(f"{name}, batch {batch}, tuned") as time_left:
            if not time_left:
                continue
            subject = case(name, batch=batch, seed=sizes.seed)
            how: dict[str, Any] = {"prior": subject.prior, "tol": sizes.tol}
            plan = subject.tune(**how, seconds=sizes.tune_seconds, progress=False)
            jobs = {"sequential": job(subject, lambda case: case.sequential())}
            if plan.options is not None:
                jobs["tuned"] = job(subject, _picard(how | plan.options))
            found = {"batch": batch, "window": plan.window, "microbatch": plan.microbatch, "advice": plan.advice}
            lines = compared(subject, jobs, sizes, found)
            # Where the plan is the sequential sampler, that is what is tuned.
            keep([line | {"method": "tuned"} for line in lines if line["method"] == "tuned" or plan.options is None])


def precisions(sizes: Sizes, budget: Budget, keep: Keep) -> None:
    """JAX's default matrix products, the highest precision, and networks that compute in bfloat16."""
    for name in sizes.precise:
        with budget.item(f"{name}, precisions") as time_left:
            if not time_left:
                continue
            subject = case(name, batch=1, seed=sizes.seed)
            config = pcm.pretrained.load(name).config
            half = dataclasses.replace(
                subject, model_fn=linen(by_name(**config.network, dtype=jnp.bfloat16)), name=subject.name
            )
            for label, which, precision in (
                ("default", subject, None),
                ("highest", subject, "highest"),
                ("bfloat16 network", half, None),
            ):
                sequential = job(which, lambda case: case.sequential(), precision)
                parallel = job(which, _picard({"prior": which.prior, "tol": sizes.tol}), precision)
                jobs = {"sequential": sequential, "secant + prior": parallel}
                keep(compared(which, jobs, sizes, {"batch": 1, "precision": label}))


COMMAND_BUFFERS = {
    "as XLA has them": None,
    "none": {"xla_gpu_enable_command_buffer": ""},
    "with while loops": {"xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUDNN,CUSTOM_CALL,CONDITIONAL,WHILE"},
}
"""What a GPU is handed as one graph of kernels. A loop in it asks the host nothing between rounds, or between steps."""


def command_buffers(sizes: Sizes, budget: Budget, keep: Keep) -> None:
    """Sequential, in rounds, and with two rounds in an iteration of the loop, by what XLA may put into command buffers.

    With loops in them some builds of XLA abort.
    """
    for label, options in COMMAND_BUFFERS.items():
        for name in sizes.precise:
            with budget.item(f"{name}, command buffers {label}") as time_left:
                if not time_left:
                    continue
                subject = case(name, batch=1, seed=sizes.seed)
                parallel = job(subject, _picard({"prior": subject.prior, "tol": sizes.tol}))
                jobs = {"sequential": job(subject, lambda case: case.sequential()), "secant + prior": parallel}
                twice = {"secant + prior, two rounds an iteration": parallel}
                keep(compared(subject, jobs, sizes, {"batch": 1, "command_buffers": label}, options, twice))
