"""What the parallel sampler's loop is told, and what it carries from round to round."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp

from pcm_jax.priors import GaussianPrior, start
from pcm_jax.results import SENTINEL, Stats
from pcm_jax.sampling.certificate import Certificate
from pcm_jax.sampling.linearization import History, Linearization
from pcm_jax.solvers import Solver
from pcm_jax.switching import Switch
from pcm_jax.types import Array, Cond


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """Static half of a call. preview: row whose data prediction stands for the sample after 1, 2, .. rounds."""

    window: int
    max_rounds: int
    linearization: Linearization
    certificate: Certificate
    switch: Switch | None = None
    return_trajectory: bool = False
    return_rounds: bool = False
    preview: tuple[int, ...] | None = None


class Inputs(NamedTuple):
    """Arrays that no round changes: noise `[B, ...]`, step noise `[T, B, ...]`, a guess `[T + 1, B, ...]`.

    prior: makes a guess and the first slopes `[T, B]`, see `begun`.
    """

    solver: Solver
    noise: Array
    step_noise: Array | None
    guess: Array | None
    tol: Array
    prior: GaussianPrior | None = None
    first_slope: Array | None = None

    def begun(self, cond: Cond, guidance: float | None) -> Inputs:
        """With the prior's guess and slopes, no network call; inside the compiled sampler."""
        if self.prior is None:
            return self
        guess, slope = start(self.prior, self.solver, self.noise, self.step_noise, cond, guidance=guidance)
        return self._replace(prior=None, guess=guess, first_slope=slope)


class Rows(NamedTuple):
    """What a window row remembers: the certificate's residual, age and lambda (None without a switch) `[W, B]`."""

    residual: Array
    age: Array
    share: Array | None


class State(NamedTuple):
    """Loop carry.

    `front` `[B]` is the last accepted state, `spent` `[B]` bounds its error; `x` `[W + 1, B, ...]` holds the states
    from there on, and `bound` `[B]` is what the last round said of the error of the sample.
    """

    round: Array
    front: Array
    x: Array
    f_edge: Array | None
    history: History | None
    rows: Rows
    failed: Array
    spent: Array
    bound: Array
    stats: Stats
    trajectory: Array | None
    preview: Array | None
    iterates: Array | None
    done: Array


def initial(inputs: Inputs, config: LoopConfig) -> State:
    """Every state a copy of the noise, or of the first guess; nothing accepted."""
    noise, window = inputs.noise, config.window
    batch = noise.shape[0]
    x = jnp.broadcast_to(noise, (window + 1, *noise.shape))
    if inputs.guess is not None:
        x = jnp.concatenate([noise[None], inputs.guess[1 : window + 1]])
    history = None
    if config.linearization.needs_history or config.certificate.needs_history:
        history = History(x[:-1], x[:-1], jnp.zeros((window, batch), bool))
    trajectory = None
    if config.return_trajectory:
        trajectory = jnp.broadcast_to(noise, (len(inputs.solver) + 1, *noise.shape))
        if inputs.guess is not None:
            trajectory = jnp.concatenate([noise[None], inputs.guess[1:]])
    counts = jnp.zeros(batch, jnp.int32)
    rows = Rows(
        residual=jnp.full((window, batch), jnp.inf, x.dtype),
        age=jnp.zeros((window, batch), jnp.int32),
        share=None if config.switch is None else jnp.zeros((window, batch), x.dtype),
    )
    stats = Stats(
        rounds=counts,
        evaluations=counts,
        padded_evaluations=jnp.int32(0),
        bounds=jnp.full((config.max_rounds, batch), SENTINEL, x.dtype),
        accepted=jnp.full((config.max_rounds, batch), SENTINEL, jnp.int32),
    )
    return State(
        round=jnp.int32(0),
        front=counts,
        x=x,
        f_edge=jnp.zeros_like(noise) if inputs.solver.multistep else None,
        history=history,
        rows=rows,
        failed=~jnp.all(jnp.isfinite(noise), axis=tuple(range(1, noise.ndim))),
        spent=jnp.zeros(batch, x.dtype),
        bound=jnp.full(batch, jnp.inf, x.dtype),
        stats=stats,
        trajectory=trajectory,
        preview=None if config.preview is None else noise,
        iterates=jnp.zeros((config.max_rounds, *noise.shape), x.dtype) if config.return_rounds else None,
        done=jnp.bool_(False),
    )
