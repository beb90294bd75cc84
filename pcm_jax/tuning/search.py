"""Which window, from as few measurements as decide it; all of them come from a `Meter`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from pcm_jax.tuning.advice import advice
from pcm_jax.tuning.cost import CostModel, RowsCurve, Run, candidates
from pcm_jax.tuning.plan import Plan

Choice = tuple[int, int | None]
"""(window, microbatch)."""

EVALUATIONS = 2.0
"""Of every state that a certified sample takes at the least: one that moves it and one that sees it stand. The fewest
that any shipped model takes, from the prior at tol 0.1, are 2.9."""
MARGIN = 1.02
"""Times faster that a window must be than the sequential sampler, which takes the fewest evaluations."""
LOST = 2.0
"""Times the sequential sampler's seconds after which a window is given up."""
LONG = 0.2
"""Seconds of a network call from which on no more rows are tried once a row costs what it did in the smaller call."""
POINTS, WINDOWS, RACERS = 5, 3, 3


class Meter(Protocol):
    """Measures. steps: T. batch, least: network rows of one step and of one state. devices: that share the window."""

    subject: str
    steps: int
    batch: int
    least: int
    devices: int
    device: str
    tol: float

    def left(self) -> float:
        """Seconds of the budget that are left."""

    def network(self, rows: int) -> tuple[float, int | None]:
        """(seconds of one call, bytes that it asks for)."""

    def sequential(self, expected: float) -> float:
        """Seconds of the T steps; `expected` itself where so much time is not left."""

    def memory(self, window: int, microbatch: int | None, max_rounds: int | None) -> int | None:
        """Bytes that the sampler's program asks for."""

    def run(self, window: int, microbatch: int | None, max_rounds: int | None) -> Run:
        """One window; gives up after `max_rounds`, None is the sampler's own limit."""

    def race(self, choices: Sequence[Choice]) -> tuple[float, list[float]]:
        """Seconds of the sequential sampler and of each choice, timed in turn."""


def search(meter: Meter, memory: int | None, say: Callable[[str], None] = lambda text: None) -> Plan:
    """The plan for what `meter` measures, in at most `memory` bytes on a device; `say` is told what comes next."""
    curve, most = _curve(meter, memory, say)
    model = CostModel(meter.steps, meter.batch, meter.devices, curve)
    say(f"{meter.steps} steps, one after the other")
    sequential = meter.sequential(meter.steps * curve(meter.batch))
    found = _Search(meter, model, sequential, memory, most)
    if meter.steps == 1 or model.hopeless(sequential, EVALUATIONS):
        return found.plan(None, None)
    for window in _spread(max(2, meter.steps // 8), meter.steps, WINDOWS)[::-1]:
        # The first one is measured whatever the budget says: without it there is nothing to predict from.
        if found.model.runs and meter.left() < found.dear(window):
            break
        say(f"rounds of window {window}")
        found.measure(window)
    if not found.model.runs:
        return found.plan(None, None)
    say("the best windows beside the sequential sampler")
    racers = found.racers()
    if not racers:
        return found.plan(None, None)
    found.sequential, seconds = meter.race(racers)
    best = int(np.argmin(seconds))
    return found.plan(racers[best], seconds[best])


@dataclasses.dataclass
class _Search:
    """What is known so far. limit: bytes. most: network rows of a call that fit, None: as many as a window needs."""

    meter: Meter
    model: CostModel
    sequential: float
    limit: int | None
    most: int | None
    slowest: float = 0.0

    def measure(self, window: int) -> None:
        """Runs that window, unless calls of no size fit into memory."""
        before = self.meter.left()
        fits, microbatch = self._fitting(window)
        if fits:
            cap = self._cap(window, microbatch)
            run = self.meter.run(window, microbatch, cap)
            if cap is not None and not run.converged and run.seconds < self.sequential:
                # Its rounds are quicker than the bare calls were: it was stopped before it had lost.
                run = self.meter.run(window, microbatch, None)
            runs = tuple(sorted((*self.model.runs, run), key=lambda run: run.window))
            self.model = dataclasses.replace(self.model, runs=runs)
        self.slowest = max(self.slowest, before - self.meter.left())

    def dear(self, window: int) -> float:
        """Seconds that measuring it may take: as long as the slowest so far, compilation included."""
        return max(self.slowest, self.model.call(window))

    def racers(self) -> list[Choice]:
        """The best by prediction and the full window, without those that have lost."""
        known = {run.window: run for run in self.model.runs}
        close = [size for size in range(2, self.meter.steps + 1) if self._predicted(size) < LOST * self.sequential]
        best = candidates(self.model, RACERS, close)
        if self.meter.steps in close and self.meter.steps not in best:
            best.append(self.meter.steps)
        found: list[Choice] = []
        for window in best:
            if window in known:
                if known[window].converged:
                    found.append((window, known[window].microbatch))
            elif self.meter.left() > self.dear(window):
                fits, microbatch = self._fitting(window)
                found += [(window, microbatch)] if fits else []
        return found

    def plan(self, choice: Choice | None, seconds: float | None) -> Plan:
        """`choice` and the seconds of it: the fastest window; None where there is none."""
        meter, model, sequential = self.meter, self.model, self.sequential
        window, microbatch = choice or (meter.steps, None)
        parallel = choice is not None and seconds is not None and MARGIN * seconds < sequential
        if choice is not None:
            predicted = model.seconds(window, microbatch)
        elif model.runs:
            predicted = min(run.seconds for run in model.runs)
        else:
            predicted = model.least(EVALUATIONS)
        plan = Plan(
            subject=meter.subject,
            sequential=not parallel,
            window=window,
            microbatch=microbatch,
            steps=meter.steps,
            batch=meter.batch,
            tol=meter.tol,
            seconds=seconds,
            sequential_seconds=sequential,
            expected=sequential / predicted,
            memory=meter.memory(window, microbatch, self._cap(window, microbatch)) if parallel else None,
            rows=tuple(zip(model.curve.rows, model.curve.seconds, strict=True)),
            runs=model.runs,
            devices=meter.devices,
            device=meter.device,
            advice="",
        )
        return dataclasses.replace(plan, advice=advice(plan, self.limit))

    def _predicted(self, window: int) -> float:
        return self.model.seconds(window, self.model.microbatch(window, self.most))

    def _cap(self, window: int, microbatch: int | None) -> int | None:
        """Rounds by which the window has lost; None where it may need all that there are."""
        rounds = int(np.ceil(LOST * self.sequential / self.model.call(window, microbatch))) + 1
        return rounds if rounds < self.meter.steps else None

    def _fitting(self, window: int) -> tuple[bool, int | None]:
        """(whether the program fits into memory, network rows of a call with which it does)."""
        microbatch = self.model.microbatch(window, self.most)
        while self.limit is not None:
            asked = self.meter.memory(window, microbatch, self._cap(window, microbatch))
            if asked is None or asked <= self.limit:
                break
            # States, noise and parameters are what they are: with one state a call nothing more can be saved.
            rows = microbatch or self.model.rows(window)
            if rows <= self.meter.least:
                return False, None
            microbatch = max(rows // 4, self.meter.least)
        return True, microbatch


def _curve(meter: Meter, memory: int | None, say: Callable[[str], None]) -> tuple[RowsCurve, int | None]:
    """The rows curve, and the most rows of it that fit into `memory`; None if all that a window needs do."""
    points: list[tuple[int, float]] = []
    spent, most = 0.0, None
    for size in _spread(1, -(-meter.steps // meter.devices), POINTS):
        rows = size * meter.batch
        # Half the budget belongs to the samplers.
        if len(points) >= 2 and meter.left() < 4 * spent:
            break
        say(f"the network on {rows} rows")
        before = meter.left()
        seconds, asked = meter.network(rows)
        spent = max(spent, before - meter.left())
        if memory is not None and asked is not None and asked > memory and points:
            most = points[-1][0]
            break
        points.append((rows, seconds))
        if seconds > LONG and len(points) > 1 and points[-2][1] / points[-2][0] < 1.1 * seconds / rows:
            break
    return RowsCurve.of(points), most


def _spread(low: int, high: int, count: int) -> list[int]:
    """At most `count` whole numbers from low to high, evenly apart in their logarithm."""
    return sorted({round(float(each)) for each in np.geomspace(min(low, high), high, count)})
