"""A device whose seconds are a formula: `search` with it is arithmetic."""

import dataclasses

from pcm_jax.parallel import chunk_sizes
from pcm_jax.tuning.cost import Run


@dataclasses.dataclass
class FakeMeter:
    """A call on r rows takes max(overhead, r / throughput), a round `rest` more, W rows `base + travel T / W` rounds.

    A call on r rows asks for `held + r` bytes, a sampler for `states` more. Measuring anything takes `cost` seconds of
    the budget. travel is at least 2: no sampler evaluates its states less often than that.
    """

    steps: int = 100
    batch: int = 1
    least: int = 1
    devices: int = 1
    overhead: float = 1e-3
    throughput: float = 400e3
    rest: float = 1e-4
    base: float = 6.0
    travel: float = 2.5
    held: int = 1000
    states: int = 0
    budget: float = 30.0
    cost: float = 0.5
    penalty: float = 1.0
    subject: str = "sample"
    device: str = "fake"
    tol: float = 1e-2
    asked: list = dataclasses.field(default_factory=list)

    def left(self):
        return self.budget

    def call(self, rows, microbatch=None):
        calls, size = chunk_sizes(rows, microbatch)
        return calls * max(self.overhead, size / self.throughput)

    def rounds(self, window):
        return min(float(self.steps), self.base + self.travel * (self.steps / window - 1))

    def seconds(self, window, microbatch=None):
        rows = -(-window // self.devices) * self.batch
        return self.rounds(window) * (self.call(rows, microbatch) + self.rest) * self.penalty

    def network(self, rows):
        self._did("network", rows)
        return self.call(rows), self.held + rows

    def sequential(self, expected):
        self._did("sequential", None)
        return self.steps * self.call(self.batch)

    def memory(self, window, microbatch, max_rounds):
        rows = -(-window // self.devices) * self.batch
        return self.held + self.states + chunk_sizes(rows, microbatch)[1]

    def run(self, window, microbatch, max_rounds):
        self._did("run", (window, microbatch))
        rounds, seconds = self.rounds(window), self.seconds(window, microbatch)
        if max_rounds is not None and max_rounds < rounds:
            return Run(window, microbatch, float(max_rounds), None, seconds * max_rounds / rounds, False, None)
        return Run(window, microbatch, rounds, 0.009, seconds, True, self.memory(window, microbatch, None))

    def race(self, choices):
        self._did("race", tuple(choices))
        return self.steps * self.call(self.batch), [self.seconds(*choice) for choice in choices]

    def _did(self, what, argument):
        self.asked.append((what, argument))
        self.budget -= self.cost

    def of(self, what):
        return [argument for name, argument in self.asked if name == what]
