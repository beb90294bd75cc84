"""Grids that solvers step along: training indices, Karras' levels, and times that the caller chose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pcm_jax import checks


def explicit_times(spacing: Sequence[float], num_steps: int, last: float, offset: int) -> np.ndarray:
    """Times that the caller chose, `last` the noisiest there is."""
    no_offset(offset)
    try:
        times = np.asarray(spacing, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"spacing must be a name or {num_steps} times, got {spacing!r}") from None
    if times.shape != (num_steps,) or not np.all(np.diff(times) < 0):
        raise ValueError(f"explicit times must be {num_steps} strictly decreasing numbers, got {times.tolist()}")
    if np.isfinite(last) and not 0 <= times[-1] <= times[0] <= last:
        raise ValueError(f"explicit times must lie in 0..{last:g}, got {times[0]:g} .. {times[-1]:g}")
    return times


def index_times(num_train: int, num_steps: int, spacing: str, offset: int) -> np.ndarray:
    """Training indices of a sampler: table 2 of arXiv 2305.08891, the grids that diffusers uses for DDIM."""
    num_steps, offset = checks.whole("num_steps", num_steps), checks.whole("offset", offset, 0)
    if num_steps > num_train:
        raise ValueError(f"num_steps must lie in 1..{num_train} (the number of training steps), got {num_steps}")
    if spacing == "leading":
        times = (np.arange(num_steps)[::-1] * (num_train // num_steps) + offset).astype(np.float64)
    elif spacing == "trailing":
        # Steps added up, as diffusers does, and not multiplied out: ties round to the same side.
        times = (np.round(np.arange(num_train, 0, -num_train / num_steps)) - 1)[:num_steps]
    elif spacing == "linspace":
        times = np.round(np.linspace(0, num_train - 1, num_steps))[::-1].astype(np.float64)
    else:
        raise ValueError(f"unknown spacing {spacing!r} for this schedule; choose leading, trailing or linspace")
    if times[0] > num_train - 1 or times[-1] < 0:
        raise ValueError(f"offset {offset} moves the grid outside 0..{num_train - 1}; lower the offset")
    return times


def no_offset(offset: int) -> None:
    """Refuse an offset where the grid is not one of training indices."""
    if offset:
        raise ValueError(f"offset {offset} has a meaning on grids of training indices alone; leave it out here")


def karras_sigmas(sigma_max: float, sigma_min: float, num_steps: int, rho: float = 7.0) -> np.ndarray:
    """sigma_i = (max^(1/rho) + i/(n-1) (min^(1/rho) - max^(1/rho)))^rho: EDM (arXiv 2206.00364), equation 5."""
    ramp = np.linspace(0.0, 1.0, num_steps)
    return (sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho
