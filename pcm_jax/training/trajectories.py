"""Exact solutions and Picard trajectories to train on, made on the device, one batch at a time."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pcm_jax import checks
from pcm_jax.priors import GaussianPrior
from pcm_jax.recurrence.linearization import Linearization, identity
from pcm_jax.sampling import sample_sequential
from pcm_jax.sampling.network import draw_step_noise
from pcm_jax.solvers import Solver
from pcm_jax.training.rounds import Base, Trajectory, advance, begin
from pcm_jax.types import Array, Cond, ModelFn, Params, is_shared

DrawCond = Callable[[Array, int], Cond]
"""(key, batch size) -> conditioning with leading axis B, or None."""


@dataclasses.dataclass(frozen=True)
class Labels:
    """Uniform class labels 0 .. num_classes - 1; None for a model without classes."""

    num_classes: int

    def __post_init__(self) -> None:
        checks.whole("num_classes", self.num_classes, 0, hint="0 is a model without classes")

    def __call__(self, key: Array, size: int) -> Cond:
        if not self.num_classes:
            return None
        return jax.random.randint(key, (size,), 0, self.num_classes)


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """Conditioning drawn from data, such as the observations of demonstrations: rows `[N, ...]` of a pytree."""

    data: Cond

    def __post_init__(self) -> None:
        if not all(jnp.ndim(leaf) for leaf in jax.tree.leaves(self.data)):
            raise ValueError("conditioning is drawn from rows [N, ...], got a number; repeat it for every row")
        sizes = {len(leaf) for leaf in jax.tree.leaves(self.data)}
        if len(sizes) != 1 or not min(sizes):
            raise ValueError(f"conditioning needs at least one row, and as many in every leaf, got {sorted(sizes)}")

    def __call__(self, key: Array, size: int) -> Cond:
        count = len(jax.tree.leaves(self.data)[0])
        index = jax.random.randint(key, (size,), 0, count)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], self.data)


def solve_batch(
    model_fn: ModelFn, base: Base, shape: tuple[int, ...], size: int, draw_cond: DrawCond, key: Array
) -> dict[str, Any]:
    """Fresh noises and their exact solutions: exact `[B, T + 1, ...]`, cond, step_noise `[B, T, ...]` or None."""
    checks.whole("size", size)
    checks.function("draw_cond", draw_cond, "(key, size) -> conditioning, such as Labels(10)")
    noise_key, cond_key, step_key = jax.random.split(key, 3)
    noise = jax.random.normal(noise_key, (size, *shape))
    cond = draw_cond(cond_key, size)
    if any(map(is_shared, jax.tree.leaves(cond, is_leaf=is_shared))):
        raise ValueError("a training batch holds a condition for each sample; let draw_cond repeat its Shared parts")
    z = draw_step_noise(step_key, len(base.solver), noise.shape, noise.dtype) if base.solver.stochastic else None
    out = sample_sequential(model_fn, base.params, noise, base.solver, cond=cond, step_noise=z, return_trajectory=True)
    assert out.trajectory is not None
    return {
        "exact": jnp.moveaxis(out.trajectory, 0, 1),
        "cond": cond,
        "step_noise": None if z is None else jnp.moveaxis(z, 0, 1),
    }


@functools.partial(jax.jit, static_argnums=(0, 1))
def picard_iterate(
    model_fn: ModelFn, linearization: Linearization, base: Base, batch: dict[str, Any], rounds: Array
) -> Array:
    """X^k of the base model, `[B, T + 1, ...]`, k = `rounds`."""
    z = None if batch["step_noise"] is None else jnp.moveaxis(batch["step_noise"], 0, 1)
    share = jnp.zeros(len(base.solver))

    def body(_: Array, at: Trajectory) -> Trajectory:
        return advance(model_fn, base, None, at, batch["cond"], z, share, linearization)

    start = begin(model_fn, base, batch["exact"][:, 0], batch["cond"], z)
    return jnp.moveaxis(jax.lax.fori_loop(0, rounds, body, start).x, 0, 1)


def round_probabilities(rounds: int, weights: Sequence[float] | None) -> np.ndarray:
    """How often each k = 0 .. rounds - 1 is drawn: evenly, or as `weights` say."""
    checks.whole("rounds", rounds)
    given = np.ones(rounds) if weights is None else np.asarray(weights, np.float64)
    if given.shape != (rounds,) or not np.isfinite(given).all() or given.min() < 0 or not given.any():
        raise ValueError(f"round_weights must be {rounds} numbers from 0 on, not all 0, got {weights}")
    return np.asarray(given / given.sum())


class OnlineTrajectories:
    """Endless batches for `Consistency`, all drawn from (seed, step): any position can be returned to.

    source: "on_policy" gives exact solutions, the loss itself runs the rounds of the model in training; "picard" adds
    X^k of the base model, the paper's data. rounds: k is drawn from 0 .. rounds - 1, one k for a batch, evenly or with
    the weights round_weights, such as the errors after k rounds. prior: of the guess X^0. Nothing is kept: a batch is
    solved when it is asked for.
    """

    def __init__(
        self,
        model_fn: ModelFn,
        params: Params,
        solver: Solver,
        shape: tuple[int, ...],
        *,
        batch_size: int,
        rounds: int,
        seed: int,
        draw_cond: DrawCond,
        source: str = "on_policy",
        linearization: Linearization | None = None,
        round_weights: Sequence[float] | None = None,
        prior: GaussianPrior | None = None,
    ) -> None:
        if source not in ("on_policy", "picard"):
            raise ValueError(f"unknown source {source!r}; choose on_policy or picard")
        checks.whole("batch_size", batch_size)
        checks.whole("seed", seed, 0)
        checks.function("draw_cond", draw_cond, "(key, size) -> conditioning, such as Labels(10)")
        self._weights = jnp.asarray(round_probabilities(rounds, round_weights), jnp.float32)
        self._model_fn, self._base, self._shape = model_fn, Base(params, solver, prior), tuple(shape)
        self._size, self._rounds, self._draw_cond = batch_size, rounds, draw_cond
        self._key, self._picard = jax.random.key(seed), source == "picard"
        self._linearization = identity() if linearization is None else linearization
        self._step = 0

    def __next__(self) -> dict[str, Any]:
        key, round_key = jax.random.split(jax.random.fold_in(self._key, self._step))
        batch = solve_batch(self._model_fn, self._base, self._shape, self._size, self._draw_cond, key)
        k = jax.random.choice(round_key, self._rounds, p=self._weights)
        if self._picard:
            batch["x"] = picard_iterate(self._model_fn, self._linearization, self._base, batch, k)
        batch["round"] = jnp.full(self._size, k, jnp.int32)
        self._step += 1
        return batch

    def get_state(self) -> dict[str, Any]:
        """The position, for JSON."""
        return {"step": self._step}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a position."""
        self._step = int(state["step"])
