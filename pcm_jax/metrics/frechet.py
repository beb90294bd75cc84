r"""Distances between two sets of features: Frechet (FD) and kernel (KID).

FD   = |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))            (arXiv 1706.08500)
KID  = unbiased MMD^2 under k(x, y) = (x . y / d + 1)^3               (arXiv 1801.01401)
"""

from __future__ import annotations

import dataclasses

import numpy as np

from pcm_jax import checks
from pcm_jax.types import ArrayLike


@dataclasses.dataclass
class Moments:
    """Mean and covariance in float64 of features that arrive in batches and are not kept.

    count: how many. mean: `[D]`. scatter: sum of (x - mean)(x - mean)^T, `[D, D]`. Batches are merged by the pairwise
    rule of Chan, Golub and LeVeque, which does not cancel as sums of squares do.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def empty(cls, dimensions: int) -> Moments:
        """Of nothing yet."""
        checks.whole("dimensions", dimensions)
        return cls(0, np.zeros(dimensions), np.zeros((dimensions, dimensions)))

    @classmethod
    def of(cls, features: ArrayLike) -> Moments:
        """Of one batch `[N, D]`."""
        x = np.asarray(features, np.float64)
        if x.ndim != 2 or not len(x):
            raise ValueError(f"features must be [N, D] with at least one row, got {x.shape}")
        if not np.isfinite(x).all():
            raise ValueError("features hold NaN or inf; look at the images they were made of")
        mean = x.mean(0)
        centred = x - mean
        return cls(len(x), mean, centred.T @ centred)

    def merged(self, other: Moments) -> Moments:
        """Of both sets together."""
        if self.mean.shape != other.mean.shape:
            raise ValueError(f"features of {len(self.mean)} and of {len(other.mean)} dimensions cannot be merged")
        count = self.count + other.count
        apart = other.mean - self.mean
        share = other.count / count if count else 0.0
        scatter = self.scatter + other.scatter + self.count * share * np.outer(apart, apart)
        return Moments(count, self.mean + share * apart, scatter)

    def with_batch(self, features: ArrayLike) -> Moments:
        """Of these and one batch more."""
        return self.merged(Moments.of(features))

    @property
    def covariance(self) -> np.ndarray:
        """`[D, D]`, with N - 1 below."""
        if self.count < 2:
            raise ValueError(f"a covariance takes at least 2 samples, there are {self.count}")
        return self.scatter / (self.count - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """FD between two Gaussians with these moments.

    The trace of (S_a S_b)^(1/2) is the sum of the square roots of the eigenvalues of S_a^(1/2) S_b S_a^(1/2), which is
    symmetric: no square root of an indefinite matrix, also where there are fewer samples than dimensions.
    """
    for moments in (a, b):
        if not isinstance(moments, Moments):
            raise ValueError(f"two Moments are compared, got {checks.shown(moments)}; make them with Moments.of(..)")
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features of {len(a.mean)} and of {len(b.mean)} dimensions cannot be compared")
    values, vectors = np.linalg.eigh(a.covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    inner = np.linalg.eigvalsh(root.T @ b.covariance @ root)
    cross = np.sum(np.sqrt(np.maximum(inner, 0.0)))
    apart = a.mean - b.mean
    return float(apart @ apart + np.trace(a.covariance) + np.trace(b.covariance) - 2.0 * cross)


def kernel_distance(
    a: ArrayLike, b: ArrayLike, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """KID: mean and standard deviation over random subsets of the features `[N, D]` and `[M, D]`.

    Args:
        a, b: the two sets.
        subsets, subset_size: how many, and of how many samples of each; all of them where there are fewer.
        seed: of the subsets.
    """
    x, y = (checks.numbers("features", features) for features in (a, b))
    checks.whole("seed", seed, 0)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"features must be [N, D] and [M, D], got {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("features hold NaN or inf; look at the images they were made of")
    checks.whole("subsets", subsets, 0)
    size = min(checks.whole("subset_size", subset_size), len(x), len(y))
    if size < 2 or subsets < 1:
        raise ValueError(f"KID takes at least 2 samples of each and a subset, got {len(x)}, {len(y)} and {subsets}")
    random = np.random.default_rng(seed)
    found = [
        _mmd(x[random.choice(len(x), size, replace=False)], y[random.choice(len(y), size, replace=False)])
        for _ in range(subsets)
    ]
    return float(np.mean(found)), float(np.std(found))


def _mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased MMD^2."""
    within = 0.0
    for z in (x, y):
        kernel = (z @ z.T / z.shape[1] + 1.0) ** 3
        within += (kernel.sum() - np.trace(kernel)) / (len(z) * (len(z) - 1))
    return float(within - 2.0 * np.mean((x @ y.T / x.shape[1] + 1.0) ** 3))
