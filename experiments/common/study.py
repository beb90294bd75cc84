"""What the demo and the benchmark share: a solver, a method, and the row of numbers that one run gives."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import pcm_jax as pcm
from pcm_jax.metrics import max_difference, rms_error
from pcm_jax.pretrained import Pretrained, PretrainedAdapter, available_adapters, load_adapter
from pcm_jax.priors import GaussianPrior
from pcm_jax.recurrence.linearization import Linearization
from pcm_jax.solvers import Solver

SLOPES: dict[str, Linearization] = {
    "identity": pcm.linearization.identity(),
    "zero": pcm.linearization.zero(),
    "held_noise": pcm.linearization.held_noise(),
    "held_data": pcm.linearization.held_data(),
    "secant": pcm.linearization.secant(),
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """A model, a solver and a batch: all that the methods under comparison have in common."""

    model: Pretrained
    solver: Solver
    noise: jax.Array
    labels: jax.Array
    key: jax.Array

    @property
    def arguments(self) -> dict[str, Any]:
        key = self.key if self.solver.stochastic else None
        return {"solver": self.solver, "cond": self.labels, "key": key}

    def sequential(self) -> pcm.SampleOutput:
        return pcm.sample_sequential(self.model.model_fn, self.model.params, self.noise, **self.arguments)

    def picard(self, **options: Any) -> pcm.SampleOutput:
        return pcm.sample_picard(self.model.model_fn, self.model.params, self.noise, **self.arguments, **options)


def problem(model: Pretrained, solver: Solver, *, batch: int, seed: int) -> Problem:
    """Noise and labels drawn from the seed; labels run through the classes."""
    noise, step_noise = jax.random.split(jax.random.key(seed))
    labels = np.arange(batch) % max(model.num_classes, 1)
    return Problem(
        model, solver, jax.random.normal(noise, (batch, *model.sample_shape)), jax.numpy.asarray(labels), step_noise
    )


def solvers(model: Pretrained) -> dict[str, Solver]:
    """The four samplers of the demo, for the model's schedule, prediction and clip."""
    options: dict[str, Any] = {"prediction": model.prediction, "clip": model.clip}
    return {
        "DDIM-50": pcm.solvers.ddim(model.schedule, 50, **options),
        "DDIM-100": pcm.solvers.ddim(model.schedule, 100, **options),
        "DDPM-100": pcm.solvers.ddpm(model.schedule, 100, **options),
        "DPM-Solver++-20": pcm.solvers.dpm_solver_pp(model.schedule, 20, **options),
    }


def adapter_name(model: str, solver: str) -> str:
    """As `experiments.pcm train` ships it: digits, DDIM-50 -> digits-ddim50."""
    return f"{model}-{solver.lower().replace('-', '').replace('+', 'p')}"


def adapter_for(model: Pretrained, solver: str) -> PretrainedAdapter | None:
    """The shipped one for this solver; None if there is none."""
    name = adapter_name(model.name, solver)
    return load_adapter(name, model) if name in available_adapters() else None


def tuned(adapter: PretrainedAdapter, prior: GaussianPrior | None, slope: str = "secant") -> dict[str, Any]:
    """What an adapter is sampled with: its switch for this slope, and the prior if it was trained from it."""
    how = {"adapter": adapter.adapter, "switch": adapter.switch_for(slope)}
    return how | {"prior": prior if adapter.from_prior else None}


def row(out: pcm.SampleOutput, reference: np.ndarray, seconds: float | None = None) -> dict[str, Any]:
    """Counts, distance from the sequential sample and outcome of one run."""
    axes = tuple(range(1, reference.ndim))
    results = sorted({pcm.ResultCode(int(code)).name for code in np.asarray(out.result)})
    return {
        "rounds": int(out.stats.rounds.max()),
        "rounds_mean": float(np.mean(out.stats.rounds)),
        "evaluations": int(out.stats.evaluations.sum()),
        "padded_evaluations": int(out.stats.padded_evaluations),
        "max_difference": max_difference(out.sample, reference),
        "rms_error": rms_error(out.sample, reference),
        "worst_error": float(np.max(np.sqrt(np.mean(np.square(out.sample - reference), axis=axes)))),
        "error_bound": float(np.max(out.error_bound)),
        "result": " + ".join(results),
        "seconds": seconds,
    }


def timed(
    sample: Callable[..., pcm.SampleOutput], case: Problem, repeats: int = 1, **options: Any
) -> tuple[pcm.SampleOutput, float]:
    """`sample(case, **options)` and the seconds of one call, compiled before: `timed(Problem.picard, case, tol=..)`.

    repeats: calls whose median it is.

    Noise and parameters are arguments of the program, so nothing of the sampler is computed at compile time.
    """

    def call(params: Any, noise: jax.Array, key: jax.Array) -> pcm.SampleOutput:
        model = dataclasses.replace(case.model, params=params)
        return sample(dataclasses.replace(case, model=model, noise=noise, key=key), **options)

    program = jax.jit(call).lower(case.model.params, case.noise, case.key).compile()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        out = jax.block_until_ready(program(case.model.params, case.noise, case.key))
        seconds.append(time.perf_counter() - start)
    return out, float(np.median(seconds))


def error_curve(out: pcm.SampleOutput, reference: np.ndarray, rounds: int) -> list[float]:
    """RMS error after rounds 1 .. `rounds` of a run with return_rounds=True."""
    assert out.iterates is not None
    return [rms_error(sample, reference) for sample in np.asarray(out.iterates[:rounds])]
