"""Wall-clock of compiled functions: warmed up, waited for, and compared in pairs of the same run."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from pcm_jax import checks


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of every repeat."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))


def time_call(function: Callable[..., Any], *arguments: Any, repeats: int = 5, warmup: int = 1) -> Timing:
    """Time `function(*arguments)` until its result is ready; the warm-up takes compilation out."""
    checks.function("function", function, "of the arguments")
    checks.whole("repeats", repeats)
    for _ in range(checks.whole("warmup", warmup, 0)):
        jax.block_until_ready(function(*arguments))
    return Timing(tuple(_once(function, arguments) for _ in range(repeats)))


def paired(
    first: Callable[[], Any], second: Callable[[], Any], *, repeats: int = 9, warmup: int = 1
) -> tuple[Timing, Timing, float]:
    """Time two functions in turn, A B A B .., so that a machine that drifts drifts for both.

    Returns:
        Both timings, and the median of the ratios first / second, pair by pair.
    """
    checks.function("first", first, "without arguments")
    checks.function("second", second, "without arguments")
    checks.whole("repeats", repeats)
    for _ in range(checks.whole("warmup", warmup, 0)):
        jax.block_until_ready((first(), second()))
    pairs = [(_once(first, ()), _once(second, ())) for _ in range(repeats)]
    ratio = float(np.median([a / b for a, b in pairs]))
    return Timing(tuple(a for a, _ in pairs)), Timing(tuple(b for _, b in pairs)), ratio


def _once(function: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start
