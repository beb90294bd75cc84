"""Compiled side by side, timed in turn."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np


class Program(NamedTuple):
    """A compiled function and its arguments. compile_seconds: beside the others that were compiled at the time."""

    call: Callable[..., Any]
    arguments: tuple[Any, ...]
    compile_seconds: float
    memory: int | None


class Times(NamedTuple):
    """seconds: median of the repeats. out: the last result."""

    seconds: float
    repeats: int
    out: Any


Job = tuple[Callable[..., Any], tuple[Any, ...], str | None]
"""(function, its arguments, precision of matrix products or None for JAX's default)."""


def compile_all(jobs: Mapping[str, Job], options: Mapping[str, str] | None = None) -> dict[str, Program]:
    """Every job's program, with as many threads as there are cores: XLA compiles outside of Python's lock.

    options: of XLA, for these programs alone.
    """

    def one(job: Job) -> Program:
        function, arguments, precision = job
        start = time.perf_counter()
        # The context belongs to a thread, so it is entered here.
        with jax.default_matmul_precision(precision or "default"):
            compiled = jax.jit(function).lower(*arguments).compile(dict(options or {}))
        took, found = time.perf_counter() - start, compiled.memory_analysis()
        memory = None if found is None else int(found.temp_size_in_bytes + found.argument_size_in_bytes)
        return Program(compiled, arguments, took, memory)

    with ThreadPoolExecutor(max(1, min(8, os.cpu_count() or 1))) as pool:
        return dict(zip(jobs, pool.map(one, jobs.values()), strict=True))


def in_turn(programs: Mapping[str, Program], repeats: int, seconds: float) -> dict[str, Times]:
    """Median seconds of each, A B C A B C ..: at most `repeats` rounds, none begun after `seconds`."""
    outs = {name: jax.block_until_ready(program.call(*program.arguments)) for name, program in programs.items()}
    taken: dict[str, list[float]] = {name: [] for name in programs}
    started = time.perf_counter()
    for _ in range(repeats):
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program.call(*program.arguments))
            taken[name].append(time.perf_counter() - start)
        if time.perf_counter() - started > seconds:
            break
    return {name: Times(float(np.median(each)), len(each), outs[name]) for name, each in taken.items()}
