r"""What the methods under comparison have in common: one recurrence, its noises, and its sequential sample.

    x_{i+1} = F_i(x_i),  i = 0 .. T - 1,   F_i(x) = h_i x + g_i d_i(x) + c_i z_i

d_i(x) is the network's data prediction, h, g and c are the solver's columns and z its step noise. A coarse step from
row i to row j, which Parareal and CHORDS need, is the same with d held: (sigma_j / sigma_i) x + (alpha_j - sigma_j /
sigma_i alpha_i) d for DDIM.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import pcm_jax as pcm
from experiments.common import study
from experiments.robots.environments import pusht_features
from experiments.robots.train import PUSHT
from pcm_jax.data.robots import load_pusht
from pcm_jax.policy.decision import draw_noise
from pcm_jax.pretrained import PretrainedAdapter, available_adapters, load, load_adapter, load_policy
from pcm_jax.priors import GaussianPrior
from pcm_jax.sampling.network import call_rows, draw_step_noise
from pcm_jax.solvers import Solver
from pcm_jax.trees import fingerprint
from pcm_jax.types import Array, ArrayLike, Cond, ModelFn, Params

SETTINGS = {"digits": ("DDIM-50", "DDPM-100"), "fashion": ("DDIM-50",), "pusht": ("DDPM-100",)}
SAMPLES = {"digits": 64, "fashion": 8, "pusht": 64}
HELD_OUT = 50
"""Every so manieth episode of Push-T was not trained on."""


class Estimate(NamedTuple):
    """The sample `[B, ...]` as a method has it after `calls` batched network calls, one after the other.

    evaluations: network rows that worked for one sample until then, a number or `[B]`.
    """

    sample: Array
    calls: int
    evaluations: float | np.ndarray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Recurrence:
    """The recurrence with its noises; a pytree, so that it is an argument of compiled rounds.

    noise: `[B, ...]`. step_noise: `[T, B, ...]` or None. held: (H, G, C), coefficients of `hold`. chunk: rows of one
    network call in `advance`, which bounds the memory and changes nothing else.
    """

    params: Params
    solver: Solver
    noise: Array
    cond: Cond
    step_noise: Array | None
    held: tuple[ArrayLike, ArrayLike, ArrayLike]
    model_fn: ModelFn = dataclasses.field(metadata={"static": True})
    chunk: int = dataclasses.field(default=10, metadata={"static": True})

    def __len__(self) -> int:
        return len(self.solver)

    def advance(self, rows: Array, x: Array) -> tuple[Array, Array]:
        """(F_i(x_i), d_i(x_i)), `[R, B, ...]`, for states `[R, B, ...]` at rows `[R]`: one batched network call."""
        table = self.solver.rows(jnp.broadcast_to(rows[:, None], x.shape[:2]))
        inputs, size = table.network_input(x), self.chunk
        time = jnp.asarray(table.time)

        def call(args: tuple[Array, Array]) -> Array:
            return call_rows(self.model_fn, self.params, args[0], args[1], self.cond, self.noise.dtype)

        if len(x) > size and len(x) % size == 0:
            parts = (inputs.reshape(-1, size, *x.shape[1:]), time.reshape(-1, size, x.shape[1]))
            prediction = jax.lax.map(call, parts).reshape(x.shape)
        else:
            prediction = call((inputs, time))
        f = table.data(x, prediction)
        z = None if self.step_noise is None else self.step_noise[rows]
        return table.step(x, f, z=z, prediction=prediction), table.data_prediction(x, f)

    def steps(self, x: Array) -> Array:
        """F of all rows, `[T, B, ...]`."""
        return self.advance(jnp.arange(len(self)), x)[0]

    def hold(self, x: Array, data: Array, start: ArrayLike | int, end: ArrayLike | int) -> Array:
        """The state of row `end` from x `[B, ...]` of row `start`, the data prediction held: no network call."""
        through, gain, weight = (jnp.asarray(part, x.dtype)[start, end] for part in self.held)
        moved = through * x + gain * data
        return moved if self.step_noise is None else moved + jnp.tensordot(weight, self.step_noise, axes=1)


def recurrence(
    model_fn: ModelFn, params: Params, solver: Solver, noise: Array, cond: Cond, step_noise: Array | None
) -> Recurrence:
    """The solver's.

    Raises:
        ValueError: a multistep solver, whose state is more than x.
    """
    if solver.multistep:
        raise ValueError(f"{solver.name} is no recurrence in x alone; its history is part of the state")
    held, gain, c = (np.asarray(column, np.float64) for column in (solver.held_data, solver.data_gain, solver.c))
    steps = len(held)
    through, weight = np.ones((steps + 1, steps + 1)), np.zeros((steps + 1, steps + 1, steps))
    for start in range(steps):
        for end in range(start, steps):
            through[start, end + 1] = held[end] * through[start, end]
            weight[start, end + 1] = held[end] * weight[start, end]
            weight[start, end + 1, end] = 1.0
    jumps = tuple(part.astype(np.float32) for part in (through, weight @ gain, weight * c))
    return Recurrence(params, solver, noise, cond, step_noise if solver.stochastic else None, jumps, model_fn)  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A model, a sampler and noises.

    few: (name, steps) -> a solver for the same noise that takes fewer steps, or None where none starts from the same
    noise: a stochastic sampler's noise is its own. base: fingerprint of the model. prior: its Gaussian first guess.
    """

    model: str
    solver: str
    recurrence: Recurrence
    adapter: PretrainedAdapter | None
    base: str
    few: Callable[[str, int], Solver] | None
    prior: GaussianPrior | None = None

    @functools.cached_property
    def exact(self) -> np.ndarray:
        """The sequential sample."""
        return np.asarray(self.sequential().sample)

    def sequential(self, solver: Solver | None = None) -> pcm.SampleOutput:
        """One step after the other, with this solver or another."""
        r = self.recurrence
        options: dict[str, Any] = {"cond": r.cond, "step_noise": r.step_noise}
        return pcm.sample_sequential(r.model_fn, r.params, r.noise, solver or r.solver, **options)

    def first(self, samples: int) -> Case:
        """The same with its first samples alone."""
        r = self.recurrence
        cut = {
            "noise": r.noise[:samples],
            "cond": jax.tree.map(lambda leaf: leaf[:samples], r.cond),
            "step_noise": None if r.step_noise is None else r.step_noise[:, :samples],
        }
        return dataclasses.replace(self, recurrence=dataclasses.replace(r, **cut))


Run = Callable[[Case], Iterator[Estimate]]
"""A method: its estimates, after more and more network calls."""


def image_case(name: str, solver_name: str, samples: int, seed: int) -> Case:
    """A shipped image model; labels run through the classes."""
    model = load(name)
    solver = study.solvers(model)[solver_name]
    first, steps = jax.random.split(jax.random.key(seed))
    noise = jax.random.normal(first, (samples, *model.sample_shape))
    z = draw_step_noise(steps, len(solver), noise.shape, noise.dtype) if solver.stochastic else None
    labels = jnp.arange(samples) % max(model.num_classes, 1)

    def few(kind: str, count: int) -> Solver:
        options: dict[str, Any] = {"prediction": model.prediction, "clip": model.clip}
        if kind == "DDIM":
            return pcm.solvers.ddim(model.schedule, count, **options)
        return pcm.solvers.dpm_solver_pp(model.schedule, count, **options)

    return Case(
        name,
        solver_name,
        recurrence(model.model_fn, model.params, solver, noise, labels, z),
        study.adapter_for(model, solver_name),
        fingerprint(model.params),
        None if solver.stochastic else few,
        model.prior,
    )


def pusht_case(solver_name: str, samples: int, seed: int, data: Path | None = None) -> Case:
    """The shipped Push-T policy, on histories of episodes that it was not trained on."""
    policy = load_policy("pusht")
    noise_key, place = jax.random.split(jax.random.key(seed))
    episodes = load_pusht(data or PUSHT).episodes[HELD_OUT - 1 :: HELD_OUT]
    length = policy.obs_horizon
    histories = np.concatenate(
        [
            np.lib.stride_tricks.sliding_window_view(pusht_features(episode.observation), length, axis=0)
            for episode in episodes
        ]
    ).transpose(0, 2, 1)
    chosen = jax.random.choice(place, len(histories), (samples,), replace=len(histories) < samples)
    cond = policy.observation.normalize(jnp.asarray(histories[np.asarray(chosen)], jnp.float32))
    shape = (policy.horizon, policy.action.size)
    noise, z = draw_noise(jax.random.split(noise_key, samples), policy.solver, shape)
    name = study.adapter_name("pusht", solver_name)
    adapter = load_adapter(name, policy) if name in available_adapters() else None
    made = recurrence(policy.model_fn, policy.params, policy.solver, noise, cond, z)
    return Case("pusht", solver_name, made, adapter, fingerprint(policy.params), None, policy.prior)
