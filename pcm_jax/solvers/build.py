"""From the coefficients of a method to the table that samplers run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np

from pcm_jax.solvers.clip import Clip, check_clip
from pcm_jax.solvers.grid import Grid
from pcm_jax.solvers.table import Solver
from pcm_jax.types import PredictionType

_NO_SIGNAL = 1e-8
"""alpha under which x holds no data that float64 could divide out: pure noise, the first state of rectified flow."""

Memory = Literal["data", "noise", "output"]
"""What a method's f is: the data prediction, the noise prediction, or the network's own output."""


def to_data(prediction: str, grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""(u, w, m) with x_0 = u x + w p, p = model(m x, t), for x = alpha x_0 + sigma eps.

    epsilon: (x - sigma p) / alpha · data: p · v = alpha eps - sigma x_0 (arXiv 2202.00512, appendix D) ·
    velocity = eps - x_0 · edm: c_skip x + c_out p with input c_in x (arXiv 2206.00364, table 1).
    """
    alpha, sigma, _, _ = grid.pairs()
    one, zero = np.ones_like(alpha), np.zeros_like(alpha)
    if prediction == "epsilon":
        if np.any(alpha < _NO_SIGNAL):
            raise ValueError(
                "prediction='epsilon' does not determine the data where alpha = 0 (the first step of rectified flow); "
                "use prediction='velocity' or a grid that starts later"
            )
        return 1 / alpha, -sigma / alpha, one
    if prediction == "data":
        return zero, one, one
    if prediction == "v":
        norm = alpha**2 + sigma**2
        return alpha / norm, -sigma / norm, one
    if prediction == "velocity":
        return 1 / (alpha + sigma), -sigma / (alpha + sigma), one
    if prediction == "edm":
        data = grid.schedule.sigma_data
        norm = sigma**2 + data**2
        return data**2 / norm, sigma * data / np.sqrt(norm), 1 / np.sqrt(norm)
    raise ValueError(f"unknown prediction {prediction!r}; choose one of {', '.join(get_args(PredictionType))}")


def build(
    name: str,
    grid: Grid,
    prediction: str,
    clip: Clip,
    *,
    a: np.ndarray,
    b: np.ndarray,
    history: Mapping[int, np.ndarray] | None = None,
    raw: np.ndarray | None = None,
    c: np.ndarray | None = None,
    memory: Memory = "data",
    variance: np.ndarray | None = None,
) -> Solver:
    """Table from the coefficients of a method that is written in predictions f of the data, of the noise, or raw.

    Args:
        name, grid, prediction, clip: of the solver.
        a, b, c: x' = a x + b f + c z.
        history: h_l by lag l.
        raw: coefficient of the data prediction before the clip, beside b.
        memory: what f is.
        variance: unit of tolerances, where it is not what an ancestral step between two rows injects.

    Without a clip, a one-step method is folded into the network's own prediction: a <- a + b u, b <- b w. In
    float64 that keeps the division by a small alpha, and its round-off, out of the loop.
    """
    check_clip(clip)
    u, w, m = to_data(prediction, grid)
    alpha, sigma = grid.alpha[:-1], grid.sigma[:-1]
    c = np.zeros_like(a) if c is None else c
    columns = {lag: column for lag, column in sorted((history or {}).items()) if np.any(column)}
    with np.errstate(divide="ignore", invalid="ignore"):
        r, s = _memory(memory, u, w, alpha, sigma)
        held_data, data_gain = a + b * r, b * s + (0.0 if raw is None else raw)
        held_noise = np.where(alpha > _NO_SIGNAL, held_data + data_gain / alpha, held_data)
    extra = None
    if raw is not None and clip is None:
        b = b + raw
    elif raw is not None:
        a, extra = a + raw * u, raw * w
    folded = clip is None and not columns
    if folded:
        a, b, u, w = held_data + data_gain * u, data_gain * w, np.zeros_like(a), np.ones_like(a)
    elif clip is None:
        u, w = r + s * u, s * w
    table = {
        "time": grid.time,
        "input_scale": m,
        "data_x": u,
        "data_p": w,
        "a": a,
        "b": b,
        "c": c,
        "variance": _unit(grid.ancestral_variance if variance is None else variance),
        "held_data": held_data,
        "held_noise": held_noise,
        "data_gain": data_gain,
        "alpha": alpha,
        "sigma": sigma,
    }
    remembers = None if folded or memory == "data" else (r, s)
    every = table | {"history": columns.values(), "memory": remembers, "raw": extra}
    bad = [column for column, value in every.items() if not all(np.all(np.isfinite(v)) for v in _listed(value))]
    if bad:
        raise ValueError(
            f"{name}: coefficients {', '.join(bad)} are not finite on this grid; choose other spacing or times"
        )
    return Solver(
        **table,
        history=tuple(columns.values()),
        memory=remembers,
        raw=extra,
        name=name,
        clip=clip,
        stochastic=bool(np.any(c)),
        lags=tuple(columns),
        start_scale=float(grid.start_scale),
    )


def _listed(value: Any) -> list[np.ndarray]:
    if value is None:
        return []
    return [value] if isinstance(value, np.ndarray) else list(value)


def _memory(
    memory: Memory, u: np.ndarray, w: np.ndarray, alpha: np.ndarray, sigma: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(r, s) with f = r x + s x_0."""
    if memory == "data":
        return np.zeros_like(u), np.ones_like(u)
    if memory == "noise":
        return 1 / sigma, -alpha / sigma
    return -u / w, 1 / w


def _unit(variance: np.ndarray) -> np.ndarray:
    """The step to clean data injects nothing; its change is measured in the unit of the last step that does."""
    variance = np.where(variance > 0, variance, np.min(variance[variance > 0], initial=np.inf))
    return np.where(np.isfinite(variance), variance, 1.0)
