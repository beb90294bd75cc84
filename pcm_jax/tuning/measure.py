"""Seconds and bytes of compiled programs on this device."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from pcm_jax.results import Outcome, ResultCode
from pcm_jax.tuning.cost import Run
from pcm_jax.tuning.search import Choice

CALL_SECONDS = 0.02
"""Of one timing of the bare network: so many calls in one program that starting it does not count."""
CALL_REPEATS = 5
"""Of which the least counts: other work on the machine only ever adds."""
WARM = 1.0
"""Seconds of a first call that counts: what happens once is nothing beside it."""
PATIENCE = 20
"""Times a call's seconds that must be left for another one."""
RACE_REPEATS = 15


class Subject(Protocol):
    """What is tuned: functions of arrays, and draws of the arrays that differ from sample to sample.

    name: "sample" or "scan". steps, batch, least: T, and network rows of one step and of one state.
    """

    @property
    def name(self) -> str: ...

    @property
    def steps(self) -> int: ...

    @property
    def batch(self) -> int: ...

    @property
    def least(self) -> int: ...

    @property
    def tol(self) -> float: ...

    @property
    def held(self) -> Any: ...

    @property
    def draws(self) -> Sequence[Any]: ...

    def network(self, rows: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """(function(calls, *arrays), arrays): so many calls, each on what the last one made."""

    def sequential(self, held: Any, draw: Any) -> Outcome:
        """All steps."""

    def parallel(self, held: Any, draw: Any, window: int, microbatch: int | None, max_rounds: int | None) -> Outcome:
        """Rounds."""


class DeviceMeter:
    """A `Meter` on JAX's default device. budget: seconds, of compilation too, after which less is measured."""

    def __init__(
        self, subject: Subject, devices: int, budget: float, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.subject, self.steps, self.batch, self.least = subject.name, subject.steps, subject.batch, subject.least
        self.tol, self.devices, self.device = subject.tol, devices, jax.devices()[0].device_kind
        self._of, self._budget, self._clock, self._start = subject, budget, clock, clock()
        self._programs: dict[Choice | None, _Program] = {}
        self._limits: dict[Choice, float] = {}

    def left(self) -> float:
        return self._budget - (self._clock() - self._start)

    def network(self, rows: int) -> tuple[float, int | None]:
        function, arrays = self._of.network(rows)
        program = _Program(function, (np.int32(1), *arrays))
        once = self._time(program, (np.int32(1), *arrays))
        if once > WARM:
            return once, program.memory
        calls = int(np.clip(CALL_SECONDS / once, 1, 1000))
        return self._least(program, (np.int32(calls), *arrays)) / calls, program.memory

    def sequential(self, expected: float) -> float:
        program = self._sequential()
        if self.left() < expected:
            return expected
        return self._least(program, (self._of.held, self._of.draws[0]))

    def memory(self, window: int, microbatch: int | None, max_rounds: int | None) -> int | None:
        return self._parallel(window, microbatch, max_rounds).memory

    def run(self, window: int, microbatch: int | None, max_rounds: int | None) -> Run:
        program = self._parallel(window, microbatch, max_rounds)
        seconds: list[float] = []
        outs: list[Outcome] = []
        for draw in self._of.draws:
            # One draw whatever the budget says.
            if seconds and self.left() < 4 * seconds[-1]:
                break
            seconds.append(self._least(program, (self._of.held, draw)))
            outs.append(program.out)
        stats: list[Any] = [out.stats for out in outs]  # type: ignore[attr-defined]
        bounds = [float(np.max(out.error_bound)) for out in outs]  # type: ignore[attr-defined]
        return Run(
            window=window,
            microbatch=microbatch,
            rounds=float(np.mean([np.max(each.rounds) for each in stats])),
            bound=max(bounds) if np.isfinite(bounds).all() else None,
            seconds=float(np.mean(seconds)),
            converged=all(bool(np.all(out.result == ResultCode.CONVERGED)) for out in outs),
            memory=program.memory,
        )

    def race(self, choices: Sequence[Choice]) -> tuple[float, list[float]]:
        """In turn, all of a draw before the next one; medians over the repeats of every draw, mean over the draws."""
        programs = [
            self._sequential(),
            *(self._programs.get(choice) or self._parallel(*choice, None) for choice in choices),
        ]
        times: list[list[list[float]]] = [[[] for _ in programs] for _ in self._of.draws]
        lap = 0.0
        for turn in range(RACE_REPEATS * len(self._of.draws)):
            if turn and self.left() < lap:
                break
            draw = turn % len(self._of.draws)
            start = self._clock()
            for index, program in enumerate(programs):
                times[draw][index].append(self._time(program, (self._of.held, self._of.draws[draw])))
            lap = self._clock() - start
        means = np.mean([[np.median(each) for each in draw] for draw in times if draw[0]], axis=0)
        return float(means[0]), [float(each) for each in means[1:]]

    def _sequential(self) -> _Program:
        if None not in self._programs:
            self._programs[None] = _Program(self._of.sequential, (self._of.held, self._of.draws[0]))
        return self._programs[None]

    def _parallel(self, window: int, microbatch: int | None, max_rounds: int | None) -> _Program:
        key = (window, microbatch)
        limit = np.inf if max_rounds is None else max_rounds
        # A program that may run more rounds serves for fewer: it stops when it has converged.
        if key not in self._programs or self._limits[key] < limit:
            self._limits[key] = limit

            def run(held: Any, draw: Any) -> Outcome:
                return self._of.parallel(held, draw, window, microbatch, max_rounds)

            self._programs[key] = _Program(run, (self._of.held, self._of.draws[0]))
        return self._programs[key]

    def _least(self, program: _Program, arguments: tuple[Any, ...]) -> float:
        """Seconds of the quickest of a few calls, of one where there is no time for more."""
        seconds = [self._time(program, arguments)]
        while len(seconds) < CALL_REPEATS and self.left() > PATIENCE * seconds[0]:
            seconds.append(self._time(program, arguments))
        return min(seconds)

    def _time(self, program: _Program, arguments: tuple[Any, ...]) -> float:
        start = self._clock()
        program.out = jax.block_until_ready(program.call(*arguments))
        return self._clock() - start


@dataclasses.dataclass(init=False)
class _Program:
    """A compiled function. memory: bytes of its arguments, results and scratch on a device. out: of its last call."""

    call: Callable[..., Any]
    memory: int | None
    out: Any

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        compiled = jax.jit(function).lower(*arguments).compile()
        self.call, self.memory, self.out = compiled, _bytes(compiled), None


def _bytes(compiled: Any) -> int | None:
    found = compiled.memory_analysis()
    if found is None:
        return None
    asked = found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes
    return int(asked - found.alias_size_in_bytes)
