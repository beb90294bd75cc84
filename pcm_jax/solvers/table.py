r"""A solver is data: one row of coefficients for each network call of the sequential sampler.

    f_i     = clip(u_i x_i + w_i p_i),   p_i = model(m_i x_i, t_i)      (a prediction, of the data in most tables)
    x_{i+1} = a_i x_i + b_i f_i + b'_i f_{i-1} + c_i z_i                (z_i standard normal, drawn once)

The sequential and the parallel samplers read the same table, so they cannot disagree. Coefficients are computed in
float64 on the host. A method with several calls per step (Heun) has one row for each call.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np

from pcm_jax import checks
from pcm_jax.schedules import Schedule
from pcm_jax.types import Array, ArrayLike, PredictionType, Spacing

_NO_SIGNAL = 1e-8
"""alpha under which x holds no data that float64 could divide out: pure noise, the first state of rectified flow."""

Clip = float | Callable[[Array], Array] | None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Solver:
    """The table; every column is `[T]`, T the number of sequential network calls.

    variance: what an ancestral (DDPM) step would inject at this step, the unit of tolerances.
    held_data, held_noise: d x_{i+1} / d x_i while the data (noise) prediction is held, slopes for linearisation.
    data_gain: d x_{i+1} / d x_0 while the data prediction is x_0 in every row.
    alpha, sigma: the state of the row is x_i = alpha x_0 + sigma eps; None in a table that does not know.
    clip: bound on |data prediction|, or a function of it that is applied to every row on its own.
    """

    time: ArrayLike
    input_scale: ArrayLike
    data_x: ArrayLike
    data_p: ArrayLike
    a: ArrayLike
    b: ArrayLike
    b_prev: ArrayLike
    c: ArrayLike
    variance: ArrayLike
    held_data: ArrayLike
    held_noise: ArrayLike
    data_gain: ArrayLike
    name: str = dataclasses.field(metadata={"static": True})
    clip: Clip = dataclasses.field(default=None, metadata={"static": True})
    multistep: bool = dataclasses.field(default=False, metadata={"static": True})
    stochastic: bool = dataclasses.field(default=False, metadata={"static": True})
    alpha: ArrayLike | None = None
    sigma: ArrayLike | None = None

    def __len__(self) -> int:
        return int(self.time.shape[0])

    def rows(self, index: ArrayLike) -> Solver:
        """The table's rows at `index` of any shape: each column becomes of that shape."""
        return jax.tree.map(lambda column: jnp.asarray(column)[index], self)

    def network_input(self, x: Array) -> Array:
        """m x."""
        return _expand(self.input_scale, x) * x

    def data(self, x: Array, prediction: Array, free: Array | None = None) -> Array:
        """f = clip(u x + w p), for columns whose shape is a prefix of x's; without the clip where `free`."""
        prediction = prediction.astype(x.dtype)
        f = _expand(self.data_x, x) * x + _expand(self.data_p, x) * prediction
        if self.clip is None:
            return f
        # A clip would turn the network's inf into its bound, and a broken sample into one that looks whole.
        f = jnp.where(jnp.isfinite(prediction), f, jnp.nan)
        return self.clipped(f) if free is None else jnp.where(_expand(free, x) > 0, f, self.clipped(f))

    def clipped(self, data: Array) -> Array:
        """A data prediction inside the bound, if there is one."""
        if not callable(self.clip):
            return data if self.clip is None else jnp.clip(data, -self.clip, self.clip)
        lead = jnp.ndim(self.time)
        return self.clip(data.reshape((-1, *data.shape[lead:]))).reshape(data.shape)

    def data_prediction(self, x: Array, f: Array) -> Array:
        """x_0 as the network sees it in x, from f = `data(x, ..)`."""
        if self.clip is not None or self.multistep:
            return f
        # `build` has folded u and w into a and b; held_data and data_gain are what a and b were before.
        free = _expand(self.a, x) - _expand(self.held_data, x)
        return (free * x + _expand(self.b, x) * f) / _expand(self.data_gain, x)

    def step(self, x: Array, f: Array, f_prev: Array | None, z: Array | None) -> Array:
        """x' = a x + b f (+ b' f_prev) (+ c z)."""
        new = _expand(self.a, x) * x + _expand(self.b, x) * f
        if f_prev is not None:
            new += _expand(self.b_prev, x) * f_prev
        if z is not None:
            new += _expand(self.c, x) * z
        return new


def _expand(column: ArrayLike, x: Array) -> Array:
    column = jnp.asarray(column, x.dtype)
    return column.reshape(column.shape + (1,) * (x.ndim - column.ndim))


@dataclasses.dataclass(frozen=True)
class Grid:
    """Times `[T]` and marginals `[T + 1]` of a sampler's states, float64, noisiest first."""

    schedule: Schedule
    time: np.ndarray
    alpha: np.ndarray
    sigma: np.ndarray

    @property
    def ancestral_variance(self) -> np.ndarray:
        r"""Var[x_{i+1} | x_i, x_0] = sigma'^2 / sigma^2 (sigma^2 - (alpha / alpha')^2 sigma'^2), DDPM equation 7."""
        _, sigma, _, sigma_next = self.pairs()
        return (sigma_next / sigma) ** 2 * self.transition_variance

    @property
    def transition_variance(self) -> np.ndarray:
        r"""Var[x_i | x_{i+1}] = sigma^2 - (alpha / alpha')^2 sigma'^2: DDPM's beta."""
        alpha, sigma, alpha_next, sigma_next = self.pairs()
        return sigma**2 - (alpha / alpha_next * sigma_next) ** 2

    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """alpha_i, sigma_i, alpha_{i+1}, sigma_{i+1}."""
        return self.alpha[:-1], self.sigma[:-1], self.alpha[1:], self.sigma[1:]


def make_grid(
    schedule: Schedule, num_steps: int, spacing: Spacing | Sequence[float] | None, offset: int = 0, extra: int = 0
) -> Grid:
    """The states of a `num_steps`-step sampler; `extra` times at the end of the grid are left out."""
    if isinstance(schedule, type) or not hasattr(schedule, "marginals"):
        raise ValueError(
            f"schedule must be an object such as pcm_jax.schedules.linear_vp(), got {checks.shown(schedule)}"
        )
    num_steps = checks.whole("num_steps", num_steps)
    spacing = schedule.spacing if spacing is None else spacing
    try:
        time = np.asarray(schedule.times(num_steps + extra, spacing, offset), np.float64)[:num_steps]
    except ValueError as error:
        if not extra:
            raise
        raise ValueError(f"{error}; this method's grid has one point more than its {num_steps} steps") from error
    alpha, sigma = schedule.marginals(time)
    alpha_last, sigma_last = schedule.final
    return Grid(schedule, time, np.append(alpha, alpha_last), np.append(sigma, sigma_last))


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
    b_prev: np.ndarray | None = None,
    c: np.ndarray | None = None,
    variance: np.ndarray | None = None,
) -> Solver:
    """Table from the coefficients of a method that is written in the data prediction.

    Without a clip, a one-step method is folded into the network's own prediction: a <- a + b u, b <- b w. In
    float64 that keeps the division by a small alpha, and its round-off, out of the loop.
    """
    if clip is not None and not callable(clip):
        try:
            clip = checks.number("clip", clip, 0, above=True)
        except ValueError:
            raise ValueError(f"clip must be a positive bound, a function or None, got {clip!r}") from None
    u, w, m = to_data(prediction, grid)
    zero = np.zeros_like(a)
    b_prev = zero if b_prev is None else b_prev
    c = zero if c is None else c
    multistep, stochastic = bool(np.any(b_prev)), bool(np.any(c))
    with np.errstate(divide="ignore"):
        held_noise = np.where(grid.alpha[:-1] > _NO_SIGNAL, a + b / grid.alpha[:-1], a)
    held_data, data_gain = a, b + b_prev
    variance = grid.ancestral_variance if variance is None else variance
    # The step to clean data injects nothing; its change is measured in the unit of the last step that does.
    variance = np.where(variance > 0, variance, np.min(variance[variance > 0], initial=np.inf))
    variance = np.where(np.isfinite(variance), variance, 1.0)
    if clip is None and not multistep:
        a, b, u, w = a + b * u, b * w, zero, zero + 1.0
    table = {
        "time": grid.time,
        "input_scale": m,
        "data_x": u,
        "data_p": w,
        "a": a,
        "b": b,
        "b_prev": b_prev,
        "c": c,
        "variance": variance,
        "held_data": held_data,
        "held_noise": held_noise,
        "data_gain": data_gain,
        "alpha": grid.alpha[:-1],
        "sigma": grid.sigma[:-1],
    }
    bad = [column for column, value in table.items() if not np.all(np.isfinite(value))]
    if bad:
        raise ValueError(
            f"{name}: coefficients {', '.join(bad)} are not finite on this grid; choose other spacing or times"
        )
    return Solver(**table, name=name, clip=clip, multistep=multistep, stochastic=stochastic)


def dynamic_threshold(ratio: float = 0.995, max_value: float = 1.0) -> Callable[[Array], Array]:
    """Imagen's clip (arXiv 2205.11487, section 2.3): s = quantile(|x_0|) in [1, max_value], clip to s, divide by s."""
    checks.number("ratio", ratio, 0, 1, above=True, hint="a quantile of |x_0|")
    checks.number("max_value", max_value, 1, hint="a bound that the data lie in")
    return _DynamicThreshold(float(ratio), float(max_value))


@dataclasses.dataclass(frozen=True)
class _DynamicThreshold:
    ratio: float
    max_value: float

    def __call__(self, data: Array) -> Array:
        flat = jnp.abs(data.reshape(data.shape[0], -1))
        bound = jnp.clip(jnp.quantile(flat, self.ratio, axis=1), 1.0, self.max_value)
        bound = bound.reshape((-1,) + (1,) * (data.ndim - 1))
        return jnp.clip(data, -bound, bound) / bound
