"""`pcm.scan` as the loop and its derivative see it: compiled rounds of a step function, and one sequential step."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from pcm_jax.parallel import WHOLE, Along, Executor, Layout, WindowAxis
from pcm_jax.recurrence import LoopConfig, Solved, Start, run
from pcm_jax.scanning.steps import ScanSteps, Tuned, cheaper, one
from pcm_jax.scanning.trace import Traced
from pcm_jax.types import Array, PyTree


class Rest(NamedTuple):
    """What changes the rounds and not the fixed point: a guess or what its step closes over, and the adapter's."""

    tol: Array
    guess: PyTree
    guess_over: list[Array]
    adapter_over: list[Array]


@dataclasses.dataclass(frozen=True)
class ScanCall:
    """All that a compiled scan is kept by; see `recurrence.gradient.Call`. spread: the step on a device's own rows."""

    step: Traced
    spread: Traced
    adapter: Traced | None
    guess: Traced | None
    single: bool
    config: LoopConfig
    executor: Executor
    depth: int = 0
    microbatch: int | None = None

    def whole(self) -> ScanCall:
        return dataclasses.replace(self, config=dataclasses.replace(self.config, return_trajectory=True))

    def shown(self, out: Solved) -> Solved:
        return out if self.config.return_trajectory else out._replace(trajectory=None)

    def run(self, theta: list[Array], rows: PyTree, first: PyTree, rest: Rest) -> Solved:
        return _compiled(self)(theta, rows, first, rest)

    def one_step(
        self, theta: list[Array], row: PyTree, x: PyTree, before: Array | None
    ) -> tuple[PyTree, PyTree, PyTree]:
        new, emitted = one(self.step, theta, x, row, self.single)
        return new, None, emitted


@functools.lru_cache(maxsize=32)
def _compiled(call: ScanCall) -> Callable[..., Solved]:
    def body(axis: WindowAxis, theta: list[Array], rows: PyTree, first: PyTree, rest: Rest) -> Solved:
        guess, slopes, config = rest.guess, None, call.config.on(axis)
        window = config.window
        if call.guess is not None:
            every = window.axis.joined(rows, window.num_steps) if window.axis.given else rows
            guess, slopes = cheaper(call.guess, rest.guess_over, first, every, call.single, window.num_steps)
        tuned = None if call.adapter is None else Tuned(call.adapter, rest.adapter_over)
        problem = ScanSteps(window, call.spread, theta, window.axis.inputs(rows), call.single, tuned, call.microbatch)
        held: Any = (theta, rows, rest.adapter_over)
        return run(problem, Start(first, guess, rest.tol, slopes), config, held)

    return call.executor.compile(body, Layout(_inputs, WHOLE, one_call=True, held=call.config.held))


def _inputs(theta: list[Array], rows: PyTree, first: PyTree, rest: Rest) -> tuple[Any, ...]:
    """The carry has a batch axis; nobody knows which of a user's other arrays have one."""
    return WHOLE, Along(rows=True), Along(batch=0), WHOLE
