r"""Parareal over blocks of rows: SRDS.

Blocks p_0 = 0 < p_1 < .. < p_n = T, n = sqrt(T). The coarse step G holds the data prediction over a block (one call),
the fine one F takes all its steps (up to sqrt(T) calls, all blocks at once). A sweep is

    x_{b+1} <- F(x_b old) + G(x_b new) - G(x_b old)

and makes one more block exact. Selvam, Merchant, Ermon, "Self-Refining Diffusion Samplers", arXiv 2412.08292. Published
for ODEs; on a stochastic sampler, G here carries the sampler's own noise.

A coarse call needs its block's new state and the fine solves of the sweep before, no more: pipelined, block b of sweep
s is ready after max(ready(s - 1, b) + fine calls, ready(s, b) + 1) calls, and that is what is counted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from experiments.peers.problem import Case, Estimate, Recurrence
from pcm_jax.types import Array


def blocks(steps: int) -> np.ndarray:
    """Borders p_0 .. p_n of about sqrt(T) blocks."""
    return np.linspace(0, steps, round(np.sqrt(steps)) + 1).round().astype(int)


def ready(borders: np.ndarray, sweeps: int) -> list[list[int]]:
    """Network calls after which state p_b is there, for b = 0 .. n, in the first guess and after each sweep."""
    length = int(np.diff(borders).max())
    times = [list(range(len(borders)))]
    for _ in range(sweeps):
        row = [0]
        for block in range(len(borders) - 1):
            row.append(max(times[-1][block] + length, row[-1] + 1))
        times.append(row)
    return times


def srds(case: Case) -> Iterator[Estimate]:
    """The first guess and every sweep."""
    problem = case.recurrence
    borders = blocks(len(problem))
    count = len(borders) - 1
    times = ready(borders, count)
    states, coarse = [problem.noise], []
    for start, end in itertools.pairwise(borders):
        coarse.append(_coarse(problem, states[-1], start, end))
        states.append(coarse[-1])
    evaluations = count
    yield Estimate(states[-1], times[0][-1], evaluations)
    for sweep in range(1, count + 1):
        fine = _fine(problem, jnp.stack(states[:-1]), jnp.asarray(borders))
        new = states[:sweep]
        for block in range(sweep - 1, count):
            before = coarse[block]
            if block >= sweep:
                coarse[block] = _coarse(problem, new[block], borders[block], borders[block + 1])
            new.append(fine[block] + (coarse[block] - before))
        states = new
        # Blocks before the last sweep's have not changed, and are solved no more.
        evaluations += int(borders[-1] - borders[sweep - 1]) + count - sweep
        yield Estimate(states[-1], times[sweep][-1], evaluations)


@jax.jit
def _coarse(problem: Recurrence, x: Array, start: Array, end: Array) -> Array:
    _, data = problem.advance(jnp.asarray(start)[None], x[None])
    return problem.hold(x, data[0], start, end)


@jax.jit
def _fine(problem: Recurrence, x: Array, borders: Array) -> Array:
    """Ends of all blocks from their first states `[n, B, ...]`."""

    def step(offset: Array, x: Array) -> Array:
        row = borders[:-1] + offset
        inside = row < borders[1:]
        new, _ = problem.advance(jnp.minimum(row, len(problem) - 1), x)
        return jnp.where(inside.reshape(-1, *(1,) * (x.ndim - 1)), new, x)

    return jax.lax.fori_loop(0, jnp.max(borders[1:] - borders[:-1]), step, x)
