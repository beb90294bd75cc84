r"""A Gaussian of low rank for each condition, and its posterior mean, which is an exact denoiser.

    x_0 ~ N(mu, S),   S = U diag(l) U^T + r (I - U U^T),   x = alpha x_0 + sigma eps
    E[x_0 | x] = mu + (k I + U diag(g - k) U^T) (x - alpha mu)
    g = alpha l / (alpha^2 l + sigma^2),   k = alpha r / (alpha^2 r + sigma^2)

Reference: Wiener filter; as a model of diffusion at high noise, arXiv 2412.09726.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pcm_jax.types import Array, ArrayLike, Cond, is_shared, unwrapped

Kind = Literal["pooled", "class", "observation", "sample"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class GaussianPrior:
    """A Gaussian fit of a model's samples, `fit_prior` makes it; a pytree.

    Its last component is fitted to all samples: what stands for no condition, and for a null label. Before it come
    none (kind "pooled"), one for each label ("class"), or one whose mean is linear in the observations, which are the
    network's conditioning ("observation"). `around` makes one for each sample of a batch ("sample"). K components of
    D = prod(sample_shape) dimensions:

    mean: `[K, *sample_shape]`; of "observation", the first one is the mean where observations are 0.
    basis: orthonormal columns `[K, D, R]`, or `[1, D, R]` shared by all components.
    variances: along the columns, `[K, R]`. remainder: in each of the other D - R directions, `[K]`.
    weights: d mean / d observations, `[D_obs, D]`, of "observation" alone.
    """

    mean: ArrayLike
    basis: ArrayLike
    variances: ArrayLike
    remainder: ArrayLike
    weights: ArrayLike | None = None
    kind: Kind = dataclasses.field(default="pooled", metadata={"static": True})

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return tuple(self.mean.shape[1:])

    @property
    def num_classes(self) -> int:
        """Labels that have a component of their own."""
        return self.mean.shape[0] - 1 if self.kind == "class" else 0

    def pooled(self) -> GaussianPrior:
        """The component of all samples alone: for a model that is conditioned on something else."""
        return GaussianPrior(self.mean[-1:], self.basis[-1:], self.variances[-1:], self.remainder[-1:])

    def around(self, mean: ArrayLike, spread: float = 1.0) -> GaussianPrior:
        """A Gaussian about each of `mean` `[B, *sample_shape]`, with the first component's covariance times `spread`.

        For a guess of the samples that is better than the prior's mean: in receding-horizon control the last plan.
        """
        count = len(mean)
        return GaussianPrior(
            mean=mean,
            basis=self.basis[:1],
            variances=spread * jnp.broadcast_to(self.variances[:1], (count, self.variances.shape[1])),
            remainder=spread * jnp.broadcast_to(self.remainder[:1], (count,)),
            kind="sample",
        )


class Component(NamedTuple):
    """The Gaussian of each sample: mean `[B, D]`, basis `[B or 1, D, R]`, variances `[B, R]`, remainder `[B, 1]`."""

    mean: Array
    basis: Array
    variances: Array
    remainder: Array

    def project(self, x: Array) -> Array:
        """U^T x, `[.., B, R]` of `[.., B, D]`."""
        return jnp.matmul(x[..., None, :], _lead(self.basis, x[..., None]), precision=lax.Precision.HIGHEST)[..., 0, :]

    def expand(self, coordinates: Array) -> Array:
        """U y, `[.., B, D]` of `[.., B, R]`."""
        basis = jnp.swapaxes(_lead(self.basis, coordinates[..., None]), -1, -2)
        return jnp.matmul(coordinates[..., None, :], basis, precision=lax.Precision.HIGHEST)[..., 0, :]

    def gains(self, alpha: Array, sigma: Array) -> tuple[Array, Array]:
        """g `[.., B, R]` and k `[.., B, 1]`, for marginals `[.., 1, 1]`."""
        return gain(_lead(self.variances, alpha), alpha, sigma), gain(_lead(self.remainder, alpha), alpha, sigma)

    def posterior_mean(self, x: Array, alpha: Array, sigma: Array) -> Array:
        """E[x_0 | x] `[B, D]`, x `[B, D]` at one noise level, marginals `[1, 1]`."""
        offset = x - alpha * self.mean
        within, without = self.gains(alpha, sigma)
        return self.mean + without * offset + self.expand((within - without) * self.project(offset))


def _lead(array: Array, like: Array) -> Array:
    """Axes of length 1 in front, for as many axes as `like` has."""
    return array.reshape((1,) * (like.ndim - array.ndim) + array.shape)


def gain(variance: Array, alpha: Array, sigma: Array) -> Array:
    """d E[x_0 | x] / dx along a direction of this variance."""
    return alpha * variance / (alpha**2 * variance + sigma**2)


def per_sample(cond: Cond, batch: int) -> Cond:
    """`cond` with what all samples share, `[1, ..]`, repeated: a prior has a component for each sample."""
    if not is_shared(cond):
        return cond
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (batch, *jnp.shape(leaf)[1:])), unwrapped(cond))


def component_index(prior: GaussianPrior, cond: Cond, batch: int) -> Array:
    """Which component each sample has, int `[B]`; the last one where there is no condition, or a null label."""
    last = prior.mean.shape[0] - 1
    if prior.kind == "sample":
        return jnp.arange(batch)
    if cond is None or prior.kind == "pooled":
        return jnp.full(batch, last)
    if prior.kind == "observation":
        return jnp.zeros(batch, int)
    label = jnp.asarray(cond)
    return jnp.where((label >= 0) & (label < last), label, last)


def components(prior: GaussianPrior, cond: Cond, batch: int, dtype: jnp.dtype) -> Component:
    """The Gaussian of every sample of a batch."""
    index = component_index(prior, cond, batch)
    mean = jnp.asarray(prior.mean, dtype).reshape(prior.mean.shape[0], -1)[index]
    if prior.weights is not None and cond is not None:
        seen = jnp.asarray(cond, dtype).reshape(batch, -1)
        mean += jnp.matmul(seen, jnp.asarray(prior.weights, dtype), precision=lax.Precision.HIGHEST)
    basis = jnp.asarray(prior.basis, dtype)
    if cond is None or prior.kind != "class":
        # One component for the whole batch: its basis need not be repeated for every sample.
        basis = basis[:1] if prior.kind in ("observation", "sample") and cond is not None else basis[-1:]
    elif basis.shape[0] > 1:
        basis = basis[index]
    variances, remainder = jnp.asarray(prior.variances, dtype), jnp.asarray(prior.remainder, dtype)
    return Component(mean, basis, variances[index], remainder[index][:, None])


def dimensions(shape: tuple[int, ...]) -> int:
    """D, or D_obs."""
    return math.prod(shape)


def is_concrete(array: object) -> bool:
    """Whether values can be looked at."""
    return isinstance(array, (np.ndarray, jax.Array)) and not isinstance(array, jax.core.Tracer)
