"""What a sampler returns: a sample, a result code for each sample of the batch, and the counts behind them."""

from __future__ import annotations

import dataclasses
import enum

import jax
import numpy as np

from pcm_jax.types import Array


class ResultCode(enum.IntEnum):
    """Outcome of one sample. Codes are returned, never raised, so that traced code can carry them."""

    CONVERGED = 0
    MAX_ROUNDS = 1
    NONFINITE = 2

    @property
    def message(self) -> str:
        return _MESSAGES[self]


_MESSAGES = {
    ResultCode.CONVERGED: "every state was accepted: the sample equals the sequential one to the stated tolerance",
    ResultCode.MAX_ROUNDS: "max_rounds came before the last state was accepted; raise max_rounds (the number of steps "
    "always suffices) or tol",
    ResultCode.NONFINITE: "the network returned NaN or inf on an accepted state; the sequential sampler does so too: "
    "check the weights, the prediction type and the dtype",
}

SENTINEL = -1
"""Fills `residuals` and `accepted` behind a sample's last round."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Stats:
    """Costs of one call.

    rounds: int32 `[B]`, batched network calls until the sample was done: its sequential depth, which decides latency.
    evaluations: int32 `[B]`, network rows that worked for the sample, which decide cost; two a state under guidance.
    padded_evaluations: int32, rows computed for nothing: past the end of the trajectory, for samples that were
        already done, and to fill the last device. Under `vmap` each lane counts its own loop, although all of them
        run until the slowest is done.
    residuals: `[max_rounds, B]`, largest residual in the window in each round, in units of the norm; SENTINEL after.
    accepted: int32 `[max_rounds, B]`, states accepted after each round, of the solver's T; SENTINEL after.
    """

    rounds: Array
    evaluations: Array
    padded_evaluations: Array
    residuals: Array
    accepted: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SampleOutput:
    """A batch of samples.

    sample: `[B, ...]` in float32 (float64 when the noise is); NaN where `result` is NONFINITE.
    result: int32 `[B]`, a `ResultCode` for each sample.
    residual: `[B]`, CONVERGED: the largest residual at which a state was accepted, at most `tol`; MAX_ROUNDS: the
        largest in the last round.
    trajectory: `[T + 1, B, ...]`, noise first, if it was asked for.
    iterates: `[max_rounds, B, ...]`, the sample as it stood after each round, if it was asked for.
    """

    sample: Array
    result: Array
    residual: Array
    stats: Stats
    trajectory: Array | None = None
    iterates: Array | None = None

    @property
    def converged(self) -> Array:
        """bool `[B]`."""
        return self.result == ResultCode.CONVERGED

    def raise_for_result(self) -> SampleOutput:
        """Self when every sample converged, else RuntimeError naming the samples and the remedy. Host only."""
        codes = np.asarray(self.result)
        for code in (ResultCode.NONFINITE, ResultCode.MAX_ROUNDS):
            bad = np.flatnonzero(codes.ravel() == code)
            if bad.size:
                shown = ", ".join(map(str, bad[:8])) + (", .." if bad.size > 8 else "")
                raise RuntimeError(f"{code.name} for samples {shown}: {code.message}")
        return self
