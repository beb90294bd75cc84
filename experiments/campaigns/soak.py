"""One long process: samples and policy decisions, each with another noise, condition and tolerance.

Nothing may compile after the first of each, memory stays where it is, and two threads that sample at once get the bits
that one gets. Calls are not resumed: a process that was stopped is another process.
"""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import track

import pcm_jax as pcm
from experiments.campaigns import toys
from experiments.campaigns.common import Options, finish
from pcm_jax.data.robots import Normalizer
from pcm_jax.policy import Policy
from pcm_jax.pretrained import build_policy

WARM = 200
"""Calls after which memory is where it stays: allocators and caches have what they need."""
TOLERANCES = (1e-1, 1e-2, 1e-3)
THREADED = 50
"""Calls of each thread."""
_COMPILED = "/jax/core/compile/backend_compile_duration"


class Compilations:
    """How many programs were compiled since it was made."""

    def __init__(self) -> None:
        self.count = 0
        jax.monitoring.register_event_duration_secs_listener(self._heard)

    def _heard(self, event: str, duration_secs: float, **_: str | int) -> None:
        self.count += event == _COMPILED


def resident() -> float:
    """MB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def sampler(seed: int) -> Callable[[int], np.ndarray]:
    """sample(n): one noise, label and tolerance of the tiny model."""
    model = toys.model()
    solver = pcm.solvers.ddim(model.schedule, 20, clip=1.0)

    def sample(number: int) -> np.ndarray:
        draws = np.random.default_rng((seed, number))
        noise = draws.normal(size=(2, *model.sample_shape)).astype(np.float32)
        labels = draws.integers(0, 3, 2).astype(np.int32)
        tol = TOLERANCES[number % len(TOLERANCES)]
        out = pcm.sample_picard(model.model_fn, model.params, noise, solver, cond=labels, tol=tol)
        return np.asarray(out.sample)

    return sample


def decider(seed: int) -> Callable[[int], np.ndarray]:
    """decide(n): one observation and key of the tiny policy."""
    config = toys.POLICY
    ranges = np.zeros(3, np.float32), np.ones(3, np.float32)
    action = Normalizer(ranges[0][:2], ranges[1][:2])
    params = toys.drawn(config.build()[1])
    policy: Policy = build_policy(config, params, Normalizer(*ranges), action).picard(tol=1e-2)
    root = jax.random.key(seed)

    def decide(number: int) -> np.ndarray:
        seen = np.random.default_rng((seed, 1, number)).random((2, 3)).astype(np.float32)
        return np.asarray(policy.act(seen, jax.random.fold_in(root, number)).actions)

    return decide


def soak(call: Callable[[int], np.ndarray], name: str, count: int, console: Console, progress: bool) -> dict[str, Any]:
    """`count` calls: programs compiled after the first, growth of memory after the warm ones, seconds."""
    call(0)
    compiled = Compilations()
    warm, memory, seconds = min(WARM, count // 2), [], []
    for number in track(range(1, count + 1), name, console=console, disable=not progress):
        start = time.perf_counter()
        call(number)
        seconds.append(time.perf_counter() - start)
        if number == warm:
            memory = [resident()]
        if number > warm and number % 50 == 0:
            memory.append(resident())
    growth = max(memory) - memory[0] if memory else 0.0
    p50, p99 = np.percentile(seconds, [50, 99])
    return {
        "calls": count,
        "compiled": compiled.count,
        "growth_mb": round(growth, 2),
        "resident_mb": round(resident(), 1),
        "p50_ms": round(1e3 * float(p50), 3),
        "p99_ms": round(1e3 * float(p99), 3),
    }


def different_in_threads(call: Callable[[int], np.ndarray], count: int) -> int:
    """Calls whose bits differ where two threads make the same ones at once, from those of one thread."""
    alone = [call(number) for number in range(count)]
    found: list[list[np.ndarray]] = [[], []]
    barrier = threading.Barrier(2)

    def run(mine: list[np.ndarray]) -> None:
        for number in range(count):
            barrier.wait()
            mine.append(call(number))

    threads = [threading.Thread(target=run, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(not np.array_equal(one, other) for mine in found for one, other in zip(alone, mine, strict=True))


def run(options: Options, console: Console, *, progress: bool = True) -> dict[str, Any]:
    """Both kinds of calls, then the threads."""
    jnp.zeros(1).block_until_ready()
    calls = {"samples": sampler(options.seed), "decisions": decider(options.seed)}
    found = {name: soak(call, name, options.cases, console, progress) for name, call in calls.items()}
    threads = {name: different_in_threads(call, min(THREADED, options.cases)) for name, call in calls.items()}
    figures = {
        "soak_recompilations": sum(part["compiled"] for part in found.values()),
        "soak_growth_mb": max(part["growth_mb"] for part in found.values()),
    }
    payload = {**found, "different_in_threads": threads}
    finish("soak", options, payload, figures, console)
    return payload
