r"""Noise schedules: x_t = alpha(t) x_0 + sigma(t) eps, and the time grids that solvers step along.

A schedule says four things: the marginals at a network time `t`, the times of a `num_steps`-step sampler (noisiest
first), the marginals of the state after the last step, and how training draws `t`. `t` is what the network is
given: the training index 0..N-1 (VP), N * sigma (rectified flow) or ln(sigma) / 4 (EDM).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from pcm_jax import checks
from pcm_jax.grids import explicit_times, index_times, karras_sigmas, no_offset
from pcm_jax.types import Array, ArrayLike, Spacing


class Schedule(Protocol):
    """Marginals, grid and training times of one diffusion process."""

    @property
    def final(self) -> tuple[float, float]:
        """(alpha, sigma) of the state that the last step lands on."""

    @property
    def spacing(self) -> Spacing:
        """The usual grid of this process."""

    @property
    def sigma_data(self) -> float:
        """Standard deviation of the data, used by EDM preconditioning alone."""

    def marginals(self, t: ArrayLike) -> tuple[ArrayLike, ArrayLike]:
        """alpha(t), sigma(t). NumPy in, float64 NumPy out; JAX in, JAX out."""

    def time_at(self, ratio: ArrayLike) -> ArrayLike:
        """The network time at which sigma / alpha is `ratio`, the nearest one where there is none; NumPy."""

    def times(self, num_steps: int, spacing: Spacing | Sequence[float], offset: int = 0) -> np.ndarray:
        """Network times of a `num_steps`-step sampler, float64 `[num_steps]`, noisiest first."""

    def sample_times(self, key: Array, num: int) -> Array:
        """Draw `num` training times."""


@dataclasses.dataclass(frozen=True)
class VP:
    """Discrete variance-preserving process, alpha^2 + sigma^2 = 1, given by its alphas_cumprod.

    `final_alpha_one` is diffusers' `set_alpha_to_one`: False (Stable Diffusion) ends the sampler on
    alphas_cumprod[0] instead of on clean data.
    """

    alphas_cumprod: tuple[float, ...]
    final_alpha_one: bool = True
    spacing: Spacing = "leading"

    def __post_init__(self) -> None:
        checks.flag("final_alpha_one", self.final_alpha_one)
        table = np.asarray(self.alphas_cumprod)
        kept = table.ndim == 1 and table.size and table.dtype.kind == "f" and np.all((table >= 0) & (table <= 1))
        if not kept or np.any(np.diff(table) > 0):
            raise ValueError(
                "alphas_cumprod must be floats in [0, 1] that never rise, one for each training step: the share of the "
                f"data's variance that is left; got {checks.shown(table)}"
            )

    @property
    def num_train_steps(self) -> int:
        return len(self.alphas_cumprod)

    @property
    def _log_ratio(self) -> np.ndarray:
        """ln(sigma / alpha) `[N]`."""
        table = np.asarray(self.alphas_cumprod, np.float64)
        with np.errstate(divide="ignore"):  # inf at a zero terminal SNR
            return 0.5 * (np.log1p(-table) - np.log(table))

    @property
    def sigma_data(self) -> float:
        return 1.0

    @property
    def final(self) -> tuple[float, float]:
        last = 1.0 if self.final_alpha_one else self.alphas_cumprod[0]
        return float(np.sqrt(last)), float(np.sqrt(1.0 - last))

    def marginals(self, t: ArrayLike) -> tuple[ArrayLike, ArrayLike]:
        """Table look-up at training index t; between two indices ln(sigma / alpha) is interpolated linearly."""
        xp = jnp if isinstance(t, jax.Array) else np
        twice = 2.0 * xp.interp(t, xp.arange(self.num_train_steps), xp.asarray(self._log_ratio))
        return 1.0 / xp.sqrt(1.0 + xp.exp(twice)), 1.0 / xp.sqrt(1.0 + xp.exp(-twice))

    def time_at(self, ratio: ArrayLike) -> ArrayLike:
        return np.interp(np.log(ratio), self._log_ratio, np.arange(self.num_train_steps))

    def times(self, num_steps: int, spacing: Spacing | Sequence[float], offset: int = 0) -> np.ndarray:
        if not isinstance(spacing, str):
            return explicit_times(spacing, num_steps, self.num_train_steps - 1, offset)
        if spacing != "karras":
            return index_times(self.num_train_steps, num_steps, spacing, offset)
        no_offset(offset)
        ends = np.exp(self._log_ratio[[-1, 0]])
        return np.asarray(self.time_at(karras_sigmas(float(ends[0]), float(ends[1]), num_steps)))

    def sample_times(self, key: Array, num: int) -> Array:
        return jax.random.randint(key, (num,), 0, self.num_train_steps).astype(jnp.float32)


def _check_betas(num_train_steps: int, beta_start: float, beta_end: float) -> None:
    checks.whole("num_train_steps", num_train_steps)
    hint = "the share of noise that a step adds"
    checks.number("beta_start", beta_start, 0, 1, above=True, below=True, hint=hint)
    checks.number("beta_end", beta_end, 0, 1, above=True, below=True, hint=hint)
    if beta_start > beta_end:
        raise ValueError(f"beta_start must be at most beta_end, got {beta_start:g} and {beta_end:g}; exchange them")


def _vp_from_betas(betas: np.ndarray, final_alpha_one: bool) -> VP:
    return VP(tuple(np.cumprod(1.0 - betas).tolist()), final_alpha_one)


def linear_vp(
    num_train_steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02, *, final_alpha_one: bool = True
) -> VP:
    """beta_t linear in t: DDPM (arXiv 2006.11239), section 4."""
    _check_betas(num_train_steps, beta_start, beta_end)
    return _vp_from_betas(np.linspace(beta_start, beta_end, num_train_steps), final_alpha_one)


def scaled_linear_vp(
    num_train_steps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012, *, final_alpha_one: bool = False
) -> VP:
    """sqrt(beta_t) linear in t: latent diffusion and Stable Diffusion (arXiv 2112.10752)."""
    _check_betas(num_train_steps, beta_start, beta_end)
    return _vp_from_betas(np.linspace(beta_start**0.5, beta_end**0.5, num_train_steps) ** 2, final_alpha_one)


def cosine_vp(num_train_steps: int = 1000, max_beta: float = 0.999, *, final_alpha_one: bool = True) -> VP:
    """alphas_cumprod(t) = cos^2(pi/2 (t + 0.008) / 1.008): improved DDPM (arXiv 2102.09672), equation 17."""
    checks.whole("num_train_steps", num_train_steps)
    checks.number("max_beta", max_beta, 0, 1, above=True, hint="the share of noise that a step adds at most")
    edge = np.cos((np.arange(num_train_steps + 1) / num_train_steps + 0.008) / 1.008 * np.pi / 2) ** 2
    return _vp_from_betas(np.minimum(1.0 - edge[1:] / edge[:-1], max_beta), final_alpha_one)


def zero_terminal_snr(schedule: VP) -> VP:
    r"""The schedule with no signal at its last training step: sqrt(alphas_cumprod) shifted to 0 there, and rescaled.

        a_t <- (a_t - a_T) a_1 / (a_1 - a_T),   a_t = sqrt(alphas_cumprod_t)

    The network has to predict v or the data, the sampler to start at the last step (spacing="trailing").
    Reference: arXiv 2305.08891, algorithm 1.
    """
    if not isinstance(schedule, VP):
        raise ValueError(f"schedule must be a VP schedule such as linear_vp(), got {checks.shown(schedule)}")
    root = np.sqrt(np.asarray(schedule.alphas_cumprod, np.float64))
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return dataclasses.replace(schedule, alphas_cumprod=tuple((root**2).tolist()))


@dataclasses.dataclass(frozen=True)
class RectifiedFlow:
    """x_sigma = (1 - sigma) x_0 + sigma eps, network time N * sigma (arXiv 2209.03003; shift: arXiv 2403.03206)."""

    shift: float = 1.0
    num_train_steps: int = 1000
    spacing: Spacing = "trailing"

    def __post_init__(self) -> None:
        checks.number("shift", self.shift, 0, above=True, hint="1 leaves the times as they are")
        checks.whole("num_train_steps", self.num_train_steps)

    @property
    def final(self) -> tuple[float, float]:
        return 1.0, 0.0

    @property
    def sigma_data(self) -> float:
        return 1.0

    def marginals(self, t: ArrayLike) -> tuple[ArrayLike, ArrayLike]:
        sigma = t / self.num_train_steps
        return 1.0 - sigma, sigma

    def time_at(self, ratio: ArrayLike) -> ArrayLike:
        return self.num_train_steps * ratio / (1.0 + ratio)

    def times(self, num_steps: int, spacing: Spacing | Sequence[float], offset: int = 0) -> np.ndarray:
        """trailing: sigma = 1, 1 - 1/n, .., 1/n. linspace: 1 .. 1/N. Explicit times are taken before the shift."""
        no_offset(offset)
        if isinstance(spacing, str):
            if spacing not in ("trailing", "linspace"):
                raise ValueError(f"rectified flow has trailing and linspace grids, not {spacing!r}")
            num_steps = checks.whole("num_steps", num_steps)
            last = 1.0 / num_steps if spacing == "trailing" else 1.0 / self.num_train_steps
            sigma = np.linspace(1.0, last, num_steps)
        else:
            sigma = explicit_times(spacing, num_steps, self.num_train_steps, offset) / self.num_train_steps
        return self.num_train_steps * self.shift * sigma / (1.0 + (self.shift - 1.0) * sigma)

    def sample_times(self, key: Array, num: int) -> Array:
        """Logit-normal sigma: stable diffusion 3 (arXiv 2403.03206), section 3.1."""
        return self.num_train_steps * jax.nn.sigmoid(jax.random.normal(key, (num,)))


@dataclasses.dataclass(frozen=True)
class EDM:
    """x_sigma = x_0 + sigma eps, network time ln(sigma) / 4: EDM (arXiv 2206.00364), table 1."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    sigma_data: float = 0.5
    log_mean: float = -1.2
    log_std: float = 1.2
    spacing: Spacing = "karras"

    def __post_init__(self) -> None:
        for name in ("sigma_min", "sigma_max", "rho", "sigma_data", "log_std"):
            checks.number(name, getattr(self, name), 0, above=name != "sigma_min")
        checks.number("log_mean", self.log_mean)
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(f"edm needs 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}")

    @property
    def final(self) -> tuple[float, float]:
        return 1.0, 0.0

    def marginals(self, t: ArrayLike) -> tuple[ArrayLike, ArrayLike]:
        xp = jnp if isinstance(t, jax.Array) else np
        sigma = xp.exp(4.0 * t)
        return xp.ones_like(sigma), sigma

    def time_at(self, ratio: ArrayLike) -> ArrayLike:
        return np.log(ratio) / 4.0

    def times(self, num_steps: int, spacing: Spacing | Sequence[float], offset: int = 0) -> np.ndarray:
        """The only named grid is karras; explicit times are ln(sigma) / 4."""
        if not isinstance(spacing, str):
            return explicit_times(spacing, num_steps, np.inf, offset)
        no_offset(offset)
        if spacing != "karras":
            raise ValueError(f"EDM has the karras grid, not {spacing!r}")
        num_steps = checks.whole("num_steps", num_steps)
        return np.log(karras_sigmas(self.sigma_max, self.sigma_min, num_steps, self.rho)) / 4.0

    def sample_times(self, key: Array, num: int) -> Array:
        """ln(sigma) ~ N(log_mean, log_std^2)."""
        return (self.log_mean + self.log_std * jax.random.normal(key, (num,))) / 4.0


rectified_flow = RectifiedFlow
edm = EDM
