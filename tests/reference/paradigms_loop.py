"""The published ParaDiGMS loop in NumPy, written anew: what our rounds are held against.

Source: arXiv 2305.16317, algorithm 1, and the loop of diffusers' (deprecated) Stable Diffusion Paradigms pipeline. Its
index conventions are kept: the error of state j is divided by the ancestral variance at timestep j, with a zero
appended for the last state; the window moves by one plus the number of leading states within the tolerance, for the
slowest sample of the batch; states that enter the window are copies of the last one known.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def paradigms(
    step: Callable[[np.ndarray, np.ndarray], np.ndarray],
    noise: np.ndarray,
    num_steps: int,
    window: int,
    tolerance: float,
    variance: np.ndarray,
    injected: np.ndarray | None = None,
) -> tuple[np.ndarray, int]:
    """Sample `[B, ...]` and the number of rounds.

    Args:
        step: (rows `[R]`, states `[R, B, ...]`) -> the states one step on, without noise.
        noise: `[B, ...]`.
        num_steps: T.
        window: states evaluated at once.
        tolerance: compared with sqrt(mean(change^2) / variance).
        variance: `[T]`, injected by an ancestral step at each timestep.
        injected: `[T, B, ...]`, the noise that each step adds, or None.
    """
    states = np.broadcast_to(noise, (num_steps + 1, *noise.shape)).copy()
    with np.errstate(divide="ignore"):
        weight = 1.0 / np.append(variance, 0.0)
    begin, rounds = 0, 0
    while begin < num_steps:
        end = min(begin + window, num_steps)
        rows = np.arange(begin, end)
        drift = step(rows, states[begin:end]) - states[begin:end]
        if injected is not None:
            drift = drift + injected[begin:end]
        new = states[begin] + np.cumsum(drift, axis=0)
        change = np.mean((new - states[begin + 1 : end + 1]) ** 2, axis=tuple(range(2, new.ndim)))
        with np.errstate(invalid="ignore"):  # 0 * inf at the last state, which their comparison reads as no error
            exceeds = np.any(change * weight[begin + 1 : end + 1, None] > tolerance**2, axis=1)
        settled = int(np.argmax(np.append(exceeds, True)))
        states[begin + 1 : end + 1] = new
        states[end + 1 :] = states[end]
        begin += min(1 + settled, window)
        rounds += 1
    return states[-1], rounds
