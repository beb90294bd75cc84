"""The times and marginals of a sampler's states."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from pcm_jax import checks
from pcm_jax.schedules import Schedule
from pcm_jax.types import Spacing


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """Times `[T]` and marginals `[T + 1]` of a sampler's states, float64, noisiest first.

    A state is x_i = alpha_i x_0 + sigma_i eps; only sigma / alpha has to fall, so that a state may be kept in any
    units: alpha_i = 1 are those of Karras et al. (arXiv 2206.00364).

    schedule: where the marginals are from; its `sigma_data` is read for prediction="edm". aims: (alpha, sigma) `[T]` of
    what each step is computed for, where that is not the next row's state; diffusers has such grids. start_scale: the
    first state is this multiple of the noise.
    """

    schedule: Schedule
    time: np.ndarray
    alpha: np.ndarray
    sigma: np.ndarray
    aims: tuple[np.ndarray, np.ndarray] | None = None
    start_scale: float = 1.0

    def __len__(self) -> int:
        return len(self.time)

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
        """alpha_i, sigma_i, alpha_{i+1}, sigma_{i+1}, each `[T]`."""
        aims = (self.alpha[1:], self.sigma[1:]) if self.aims is None else self.aims
        return self.alpha[:-1], self.sigma[:-1], *aims

    @property
    def log_snr(self) -> np.ndarray:
        """lambda = ln(alpha / sigma) `[T + 1]`; inf for a clean last state, -inf for a first one of pure noise."""
        with np.errstate(divide="ignore"):
            return np.log(self.alpha) - np.log(self.sigma)

    def rows(self, at: np.ndarray) -> Grid:
        """A row for each of the states `at`, in this order; the last state stays the last."""
        marginals = (np.append(column[at], column[-1]) for column in (self.alpha, self.sigma))
        return dataclasses.replace(self, time=self.time[at], alpha=next(marginals), sigma=next(marginals), aims=None)


Steps = Spacing | Sequence[float] | Grid | None
"""How solvers take their grid: a spacing's name, explicit network times, a grid, or None for the schedule's own."""


def make_grid(schedule: Schedule, num_steps: int, spacing: Steps, offset: int = 0, extra: int = 0) -> Grid:
    """The states of a `num_steps`-step sampler; `extra` times at the end of a named grid are left out."""
    if isinstance(schedule, type) or not hasattr(schedule, "marginals"):
        raise ValueError(
            f"schedule must be an object such as pcm_jax.schedules.linear_vp(), got {checks.shown(schedule)}"
        )
    num_steps, offset = checks.whole("num_steps", num_steps), checks.whole("offset", offset, 0)
    if isinstance(spacing, Grid):
        if len(spacing) != num_steps:
            raise ValueError(f"the grid has {len(spacing)} steps and num_steps is {num_steps}; make them the same")
        return spacing
    spacing = schedule.spacing if spacing is None else spacing
    extra = extra if isinstance(spacing, str) and spacing in ("leading", "linspace") else 0
    try:
        time = np.asarray(schedule.times(num_steps + extra, spacing, offset), np.float64)[:num_steps]
    except ValueError as error:
        if not extra:
            raise
        raise ValueError(f"{error}; this method's grid has one point more than its {num_steps} steps") from error
    alpha, sigma = schedule.marginals(time)
    alpha_last, sigma_last = schedule.final
    return Grid(schedule, time, np.append(alpha, alpha_last), np.append(sigma, sigma_last))
