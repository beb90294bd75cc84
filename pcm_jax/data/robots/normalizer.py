"""Min-max normalisation of observations and actions to [-1, 1]."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from pcm_jax import checks
from pcm_jax.types import Array, ArrayLike


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Normalizer:
    """x -> 2 (x - low) / (high - low) - 1 in every dimension; one that never changes becomes 0.

    low, high: float32 `[n]`, the range of the data that it was fitted on.
    """

    low: ArrayLike
    high: ArrayLike

    def __post_init__(self) -> None:
        # Only what cannot be a leaf of JAX's own making: the tree is rebuilt with tracers, shapes and placeholders.
        for name in ("low", "high"):
            value = getattr(self, name)
            text = isinstance(value, np.ndarray) and value.dtype.kind not in "biuf"
            if isinstance(value, (list, tuple, str)) or text:
                raise ValueError(f"{name} must be an array [n], got {checks.shown(value)}; wrap it in np.asarray(..)")
        hosted = isinstance(self.low, np.ndarray) and isinstance(self.high, np.ndarray)
        if hosted and (self.low.shape != self.high.shape or not np.all(self.low <= self.high)):
            raise ValueError(
                f"low and high must be two arrays [n] with low <= high everywhere, got shapes {self.low.shape} and "
                f"{self.high.shape}; Normalizer.fit(data) finds them"
            )

    @classmethod
    def fit(cls, data: np.ndarray) -> Normalizer:
        """The ranges of `data` `[.., n]`."""
        data = np.asarray(data, np.float32)
        if data.ndim < 2 or not data.size:
            raise ValueError(f"a normaliser is fitted on data [.., n], got shape {data.shape}")
        if not np.isfinite(data).all():
            raise ValueError("the data holds NaN or inf; drop the broken steps before fitting a normaliser")
        axes = tuple(range(data.ndim - 1))
        return cls(data.min(axis=axes), data.max(axis=axes))

    @classmethod
    def shapes(cls, size: int) -> Normalizer:
        """Of `size` dimensions, as `jax.ShapeDtypeStruct`s, to load one into."""
        leaf = jax.ShapeDtypeStruct((size,), jnp.float32)
        return cls(leaf, leaf)  # type: ignore[arg-type]

    @property
    def size(self) -> int:
        """n."""
        return int(self.low.shape[0])

    @property
    def range(self) -> Array:
        """high - low, and 1 where that is 0."""
        return jnp.where(self._constant, 1.0, jnp.asarray(self.high) - self.low)

    @property
    def _constant(self) -> Array:
        # Relative to the numbers' own size: what float32 cannot resolve would be blown up to [-1, 1].
        size = jnp.maximum(jnp.abs(jnp.asarray(self.low)), jnp.abs(jnp.asarray(self.high)))
        # And devices flush the least float32 numbers to 0.
        return jnp.asarray(self.high) - self.low <= jnp.maximum(1e-6 * size, 1e-30)

    def check(self, x: ArrayLike) -> None:
        """Raises ValueError if x is not `[.., n]`."""
        if jnp.ndim(x) < 1 or jnp.shape(x)[-1] != self.size:
            raise ValueError(
                f"the normaliser was fitted on {self.size} numbers, got shape {jnp.shape(x)}: observations or "
                "actions of another robot or task"
            )

    def normalize(self, x: ArrayLike) -> Array:
        """Into [-1, 1] on the data it was fitted on."""
        self.check(x)
        low, span, constant = self._like(x)
        return jnp.where(constant, 0.0, 2.0 * (jnp.asarray(x) - low) / span - 1.0)

    def unnormalize(self, x: ArrayLike) -> Array:
        """The inverse; a constant dimension gets its constant."""
        self.check(x)
        low, span, constant = self._like(x)
        return jnp.where(constant, low, (jnp.asarray(x) + 1.0) * 0.5 * span + low)

    def _like(self, x: ArrayLike) -> tuple[Array, Array, Array]:
        """low, range and whether it is 0, broadcast to x."""
        shape = jnp.shape(x)
        return tuple(jnp.broadcast_to(each, shape) for each in (self.low, self.range, self._constant))  # type: ignore[return-value]
