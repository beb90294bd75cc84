r"""Seconds of every window, from a few that were measured.

    seconds(W) = rounds(W) (call(rows(W)) + rest(W)),   rows(W) = ceil(W / devices) rows of one step

`call` is the curve of the bare network, `rest` what a round costs beside it. In calls of at most m rows, one after the
other, `call` is their number times the call of that size.

Between measured windows rounds are linear in 1 / W, as they are for a window that travels over T rows at a speed
proportional to its size and then waits for its last rows; W = 1 takes T rounds, measured or not. At a measured window
the prediction is what was measured.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from pcm_jax.parallel import chunk_sizes


@dataclasses.dataclass(frozen=True)
class RowsCurve:
    """Seconds of one network call on 1, .., R rows: linear between what was measured, proportional beyond the last.

    rows: ascending. seconds: of one call on that many, ascending too.
    """

    rows: tuple[int, ...]
    seconds: tuple[float, ...]

    @classmethod
    def of(cls, points: Sequence[tuple[int, float]]) -> RowsCurve:
        """From what was measured: more rows never take less, so a time above that of more rows was an interruption."""
        rows, seconds = zip(*points, strict=True)
        least = np.minimum.accumulate(np.asarray(seconds)[::-1])[::-1]
        return cls(tuple(rows), tuple(float(each) for each in least))

    def __call__(self, rows: int, microbatch: int | None = None) -> float:
        """Seconds for `rows`, in calls of at most `microbatch` rows each."""
        calls, size = chunk_sizes(rows, microbatch)
        if size > self.rows[-1]:
            return calls * self.seconds[-1] * size / self.rows[-1]
        return calls * float(np.interp(size, self.rows, self.seconds))

    @property
    def cheapest(self) -> float:
        """Seconds of a row where rows are cheapest."""
        return min(seconds / rows for rows, seconds in zip(self.rows, self.seconds, strict=True))

    def free(self, slack: float = 1.25) -> int:
        """Most rows that were measured at no more than `slack` times the first call."""
        return max(rows for rows, cost in zip(self.rows, self.seconds, strict=True) if cost <= slack * self.seconds[0])


@dataclasses.dataclass(frozen=True)
class Run:
    """One window as it was measured, by which calls of the network and how well.

    rounds: of the slowest sample of the batch, mean over the draws that were run; not `converged`: at least these.
    bound: on the error, the largest. seconds: of one call of the sampler. memory: bytes on a device that the program
    asks for, None where the backend does not say.
    """

    window: int
    microbatch: int | None
    rounds: float
    bound: float | None
    seconds: float
    converged: bool
    memory: int | None


@dataclasses.dataclass(frozen=True)
class CostModel:
    """Predictions for a sampler of `steps` steps whose every step is `batch` network rows, over `devices` devices."""

    steps: int
    batch: int
    devices: int
    curve: RowsCurve
    runs: tuple[Run, ...] = ()

    def rows(self, window: int) -> int:
        """Network rows of one round on one device."""
        return -(-window // self.devices) * self.batch

    def call(self, window: int, microbatch: int | None = None) -> float:
        """Seconds of a round's network calls."""
        return self.curve(self.rows(window), microbatch)

    def rounds(self, window: int) -> float:
        """Of that window."""
        known = {1: float(self.steps)} | {run.window: run.rounds for run in self.runs}
        return _between(window, {size: known[size] for size in sorted(known)}, inverse=True)

    def rest(self, window: int) -> float:
        """Seconds of a round beside its network calls; less than 0 where these overlap with something."""
        known = {run.window: run.seconds / run.rounds - self.call(run.window, run.microbatch) for run in self.runs}
        return _between(window, {size: known[size] for size in sorted(known)}) if known else 0.0

    def seconds(self, window: int, microbatch: int | None = None) -> float:
        """Of the whole sampler; a round is never thought to take less than half its network calls."""
        call = self.call(window, microbatch)
        return self.rounds(window) * max(call + self.rest(window), 0.5 * call)

    def microbatch(self, window: int, most: int | None = None, gain: float = 0.9) -> int | None:
        """Rows of a call: None if one call for all fits into `most` rows and smaller ones are not worth it.

        gain: smaller calls are chosen where they take less than this share of one large call's time.
        """
        rows = self.rows(window)
        sizes = [size for size in self.curve.rows if size < rows and (most is None or size <= most)]
        fits = most is None or rows <= most
        if not sizes:
            return None if fits else most
        best = min(sizes, key=lambda size: (self.curve(rows, size), -size))
        return best if not fits or self.curve(rows, best) < gain * self.curve(rows) else None

    def least(self, evaluations: float) -> float:
        """Seconds of that many evaluations of every state, all in batches of the size in which rows are cheapest."""
        return evaluations * self.steps * self.batch * self.curve.cheapest / self.devices

    def hopeless(self, sequential: float, evaluations: float) -> bool:
        """Whether no window can win, because rows are not cheaper in a batch: a state takes so many `evaluations`."""
        return self.least(evaluations) > sequential


def candidates(model: CostModel, count: int, choices: Sequence[int], apart: float = 1.2) -> list[int]:
    """The `count` windows with the least predicted seconds, each `apart` times as large as the next smaller or more."""
    found: list[int] = []
    for window in sorted(choices, key=lambda size: model.seconds(size, model.microbatch(size))):
        if all(max(window, other) >= apart * min(window, other) for other in found):
            found.append(window)
    return found[:count]


def _between(at: int, known: dict[int, float], inverse: bool = False) -> float:
    """Linear interpolation in `at`, or in 1 / at; constant beyond the ends."""
    places, values = np.asarray(list(known), float), list(known.values())
    if inverse:
        return float(np.interp(-1 / at, -1 / places, values))
    return float(np.interp(at, places, values))
