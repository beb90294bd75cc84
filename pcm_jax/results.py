"""What a sampler returns: a sample, a result code for each sample of the batch, and the counts behind them."""

from __future__ import annotations

import dataclasses
import enum
from typing import Self

import jax
import numpy as np

from pcm_jax.types import Array, PyTree


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
    ResultCode.MAX_ROUNDS: "max_rounds came before the last state was accepted: raise max_rounds (the number of steps "
    "always suffices) or tol; or errors accepted early in a sliding window grew beyond tol: raise window",
    ResultCode.NONFINITE: "the network returned NaN or inf on an accepted state; the sequential sampler does so too: "
    "check the weights, the prediction type and the dtype",
}

SENTINEL = -1
"""Fills `bounds` and `accepted` behind a sample's last round."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Stats:
    """Costs of one call.

    rounds: int32 `[B]`, batched network calls until the sample was done: its sequential depth, which decides latency.
    evaluations: int32 `[B]`, network rows that worked for the sample, which decide cost; two a state under guidance.
    padded_evaluations: int32, rows computed for nothing: past the end of the trajectory, for samples that were
        already done, and to fill the last device. Under `vmap` each lane counts its own loop, although all of them
        run until the slowest is done.
    bounds: `[max_rounds, B]`, `error_bound` as each round knew it; SENTINEL after. None unless it was asked for.
    accepted: int32 `[max_rounds, B]`, states accepted after each round, of the solver's T; SENTINEL after; or None.
    """

    rounds: Array
    evaluations: Array
    padded_evaluations: Array
    bounds: Array | None = None
    accepted: Array | None = None


class Outcome:
    """What both kinds of output tell of their samples."""

    result: Array

    @property
    def converged(self) -> Array:
        """bool `[B]`."""
        return self.result == ResultCode.CONVERGED

    def raise_for_result(self) -> Self:
        """Self when every sample converged, else RuntimeError naming the samples and the remedy. Host only."""
        shards = [self.result]
        if isinstance(self.result, jax.Array) and not self.result.is_fully_addressable:
            # Spread over several processes: each reports the samples that it holds.
            shards = [shard.data for shard in self.result.addressable_shards]
        codes = np.concatenate([np.ravel(np.asarray(shard)) for shard in shards])
        for code in (ResultCode.NONFINITE, ResultCode.MAX_ROUNDS):
            bad = np.flatnonzero(codes.ravel() == code)
            if bad.size:
                shown = ", ".join(map(str, bad[:8])) + (", .." if bad.size > 8 else "")
                raise RuntimeError(f"{code.name} for samples {shown}: {code.message}")
        return self

    def checked(self, throw: bool) -> Self:
        """Self; with `throw` RuntimeError unless every sample converged."""
        if not throw:
            return self
        if isinstance(self.result, jax.core.Tracer):
            raise ValueError(
                "throw=True needs concrete results; inside jit or vmap look at the returned `result` instead"
            )
        return self.raise_for_result()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SampleOutput(Outcome):
    """A batch of samples.

    sample: `[B, ...]` in float32 (float64 when the noise is); NaN where `result` is NONFINITE.
    result: int32 `[B]`, a `ResultCode` for each sample.
    error_bound: `[B]`, on the RMS distance from the sequential sample, in units of the data. CONVERGED: at most `tol`;
        MAX_ROUNDS: what is known of the last state, inf where a row ran the fine-tuned model, the window never came to
        the end or a preview is shown; NONFINITE: inf.
    trajectory: `[T + 1, B, ...]`, noise first, if it was asked for.
    iterates: `[max_rounds, B, ...]`, the sample as it stood after each round, if it was asked for.
    """

    sample: Array
    result: Array
    error_bound: Array
    stats: Stats
    trajectory: Array | None = None
    iterates: Array | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ScanOutput(Outcome):
    """What `pcm.scan` returns; `[B]` is `[]` where the carry is one sample.

    carry: the last one, NaN where `result` is NONFINITE.
    ys: what the step returned beside the carry, leaves `[T, ...]`; of the last evaluation of every row, whose states
        were within `error_bound`.
    result: int32 `[B]`, a `ResultCode` for each sample.
    error_bound: `[B]`, on the distance of carry from `lax.scan`'s; CONVERGED: at most `tol`.
    trajectory: all carries, leaves `[T + 1, ...]`, if they were asked for.
    iterates: the carry as it stood after each round, leaves `[max_rounds, ...]`, if it was asked for.
    """

    carry: PyTree
    ys: PyTree
    result: Array
    error_bound: Array
    stats: Stats
    trajectory: PyTree = None
    iterates: PyTree = None
