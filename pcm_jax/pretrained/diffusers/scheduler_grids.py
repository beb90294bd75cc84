"""The times and noise levels that diffusers' schedulers step along, to the last bit of float32 that decides a time.

Some classes cut a time to an integer that was found by interpolation in a float32 table, and whether 998.99999 becomes
998 or 999 is seen in the sample. So the tables here are float32 where theirs are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import betaincinv

from pcm_jax.grids import karras_sigmas
from pcm_jax.schedules import VP, RectifiedFlow
from pcm_jax.solvers import Grid

_SMALLEST = 2.0**-24
"""alphas_cumprod of the last training step under rescale_betas_zero_snr, where sigma / alpha must stay finite."""


def alphas_cumprod(config: dict[str, Any], *, finite: bool) -> np.ndarray:
    """`[N]`, float32; finite: the first state of a zero terminal SNR keeps a little signal."""
    betas = _betas(config)
    if not config.get("rescale_betas_zero_snr"):
        return _cumprod(1 - betas)
    root = np.sqrt(_cumprod(1 - betas))
    first, last = root[0], root[-1]
    bar = ((root - last) * (first / (first - last))) ** 2
    alphas = np.concatenate([bar[:1], bar[1:] / bar[:-1]])
    # 1 - (1 - alpha): what the rounding of the betas leaves.
    found = _cumprod(1 - (1 - alphas))
    if finite:
        found[-1] = _SMALLEST
    return found


def table_of(name: str, config: dict[str, Any]) -> np.ndarray:
    """alphas_cumprod as the class has it."""
    return alphas_cumprod(config, finite=name not in ("DDIMScheduler", "DDPMScheduler"))


def _betas(config: dict[str, Any]) -> np.ndarray:
    if config.get("trained_betas") is not None:
        return np.asarray(config["trained_betas"], np.float32)
    count, first, last = (config[key] for key in ("num_train_timesteps", "beta_start", "beta_end"))
    kind = config["beta_schedule"]
    if kind == "linear":
        return _ramp(first, last, count)
    if kind == "scaled_linear":
        return _ramp(first**0.5, last**0.5, count) ** 2
    if kind == "sigmoid":
        ramp = _ramp(-6, 6, count)
        return (1 / (1 + np.exp(-ramp)) * (last - first) + first).astype(np.float32)
    edge = np.cos((np.arange(count + 1) / count + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - edge[1:] / edge[:-1], 0.999).astype(np.float32)


def _ramp(first: float, last: float, count: int) -> np.ndarray:
    """Evenly spaced by a float32 step, counted from the nearer end and rounded once, as PyTorch does."""
    start, end = np.float32(first), np.float32(last)
    step = np.float64((end - start) / np.float32(max(count - 1, 1)))
    index = np.arange(count)
    return np.where(index < count // 2, start + step * index, end - step * index[::-1]).astype(np.float32)


def _cumprod(alphas: np.ndarray) -> np.ndarray:
    """Products in float64 of float32 factors, each rounded to float32."""
    return np.cumprod(alphas.astype(np.float64)).astype(np.float32)


def spaced_times(config: dict[str, Any], num_steps: int, *, whole: bool, extra: bool = False) -> np.ndarray:
    """Training indices, noisiest first. whole: rounded under linspace too. extra: one point more, left out."""
    count, spacing = config["num_train_timesteps"], config["timestep_spacing"]
    last = _clipped(config) if extra else count
    points = num_steps + extra
    if spacing == "linspace":
        times = np.linspace(0, last - 1, points)
        times = np.round(times) if whole else times.astype(np.float32).astype(np.float64)
        times = times[::-1]
    elif spacing == "leading":
        times = np.arange(points)[::-1] * float(last // points) + config.get("steps_offset", 0)
    else:
        times = np.round(np.arange(last, 0, -count / num_steps)) - 1
    if points > count or times[0] > count - 1:
        raise ValueError(
            f"{num_steps} steps with timestep_spacing = {spacing!r} and steps_offset = {config.get('steps_offset', 0)} "
            f"leave the {count} training steps; take fewer steps"
        )
    return times[:num_steps]


def _clipped(config: dict[str, Any]) -> int:
    """The number of training steps above lambda_min_clipped."""
    bound = config.get("lambda_min_clipped")
    bound = -np.inf if bound is None else float(bound)
    snr = -np.log(ratios(alphas_cumprod(config, finite=True)))
    return int(config["num_train_timesteps"] - np.searchsorted(snr[::-1], bound))


def ratios(table: np.ndarray) -> np.ndarray:
    """sigma / alpha by training index, float32."""
    return np.sqrt((1 - table) / table)


def spread(config: dict[str, Any], largest: float, smallest: float, num_steps: int) -> np.ndarray | None:
    """Levels between two, from large to small, in the spacing that the file asks for; None if it asks for none."""
    smallest = smallest if config.get("sigma_min") is None else config["sigma_min"]
    largest = largest if config.get("sigma_max") is None else config["sigma_max"]
    if config.get("use_karras_sigmas"):
        return karras_sigmas(largest, smallest, num_steps)
    if config.get("use_exponential_sigmas"):
        return np.exp(np.linspace(np.log(largest), np.log(smallest), num_steps))
    if config.get("use_beta_sigmas"):
        # "Beta sampling is all you need", arXiv 2407.12173: quantiles of Beta(0.6, 0.6).
        return smallest + betaincinv(0.6, 0.6, 1 - np.linspace(0, 1, num_steps)) * (largest - smallest)
    return None


def time_of(levels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Interpolated training indices of sigma / alpha, in the logarithm."""
    logs = np.log(ratios(table)).astype(np.float64)
    return np.interp(np.log(np.maximum(levels, 1e-10)), logs, np.arange(len(logs)))


def vp_grid(
    schedule: VP, time: np.ndarray, levels: np.ndarray, *, last_unit: bool = False, start_scale: float = 1.0
) -> Grid:
    """States of variance 1 at levels sigma / alpha `[T + 1]`; last_unit: the last one in units of alpha = 1."""
    single = levels.astype(np.float32)
    # Of a state in units of alpha = 1 the network sees x / n; with sigma = 1e4, x - sigma eps feels the rounding of n.
    alpha = 1 / np.sqrt(single**2 + np.float32(1)).astype(np.float64)
    if last_unit:
        alpha[-1] = 1.0
    return Grid(schedule, time, alpha, single.astype(np.float64) * alpha, start_scale=start_scale)


def flow_grid(schedule: RectifiedFlow, levels: np.ndarray, time: np.ndarray | None = None) -> Grid:
    """States (1 - sigma) x_0 + sigma eps at sigma `[T + 1]`."""
    levels = levels.astype(np.float32).astype(np.float64)
    time = levels[:-1] * schedule.num_train_steps if time is None else time
    return Grid(schedule, time, 1 - levels, levels)


def shifted(config: dict[str, Any], levels: np.ndarray, mu: float | None) -> np.ndarray:
    """Levels moved to the noisy end: by exp(mu) or mu under dynamic shifting, else by `shift` or `flow_shift`."""
    if config.get("use_dynamic_shifting"):
        if mu is None:
            raise ValueError(
                "this scheduler shifts its noise levels by the size of the image (use_dynamic_shifting): pass mu=, "
                "which diffusers' pipelines interpolate between base_shift and max_shift"
            )
        factor = float(np.exp(mu)) if config.get("time_shift_type", "exponential") == "exponential" else float(mu)
    else:
        factor = float(config.get("shift", config.get("flow_shift", 1.0)))
    levels = factor * levels / (1 + (factor - 1) * levels)
    if config.get("shift_terminal"):
        levels = 1 - (1 - levels) / ((1 - levels[-1]) / (1 - config["shift_terminal"]))
    return levels
