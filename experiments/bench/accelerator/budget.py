"""Minutes that end: every part has a share, what it leaves goes to the next, and what is left out is named."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager


class Budget:
    """Shares of the time since `start`, in order.

    skipped: {"part", "what", "reason"} of what was left out. A part's items are thought to take as long as the longest
    of them so far.
    """

    def __init__(
        self, shares: Mapping[str, float], start: float | None = None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._clock = clock
        self._start = clock() if start is None else start
        self._ends: dict[str, float] = {}
        total = 0.0
        for part, share in shares.items():
            total += share
            self._ends[part] = total
        self._part, self._longest = "", 0.0
        self.skipped: list[dict[str, str]] = []

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    def begin(self, part: str, guess: float) -> None:
        """The next part; `guess`: seconds that its first item is thought to take."""
        self._part, self._longest = part, guess

    def left(self) -> float:
        """Seconds of this part."""
        return self._ends[self._part] - self.spent

    @contextmanager
    def item(self, what: str) -> Iterator[bool]:
        """Yields whether there is time for it; if not, it is on record as skipped."""
        if self.left() < self._longest:
            self.skip(what, f"{max(self.left(), 0.0):.0f} s left, such items take up to {self._longest:.0f} s")
            yield False
            return
        before = self.spent
        yield True
        self._longest = max(self._longest, self.spent - before)

    def skip(self, what: str, reason: str) -> None:
        """Put on record."""
        self.skipped.append({"part": self._part, "what": what, "reason": reason})
