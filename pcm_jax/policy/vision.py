"""What a policy sees besides numbers: images of one or several cameras, encoded once for every decision."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pcm_jax.data.robots import Normalizer
from pcm_jax.types import Array, ArrayLike, Params

Encode = Callable[[Params, tuple[Array, ...]], Array]
"""(params, images `[N, H, W, C]` of every camera) -> features `[N, F]`; hashable."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Vision:
    """Images -> (images - mean) / std -> features, put into the vector of numbers that the policy observes.

    params: of encode. mean, std: `[cameras, C]`, in units of 0..1. states: (name, numbers) of the parts of the vector,
    in its order. cameras: (name, (H, W, C)). position: how many numbers of the vector come before the features.
    """

    params: Params
    mean: ArrayLike
    std: ArrayLike
    encode: Encode = dataclasses.field(metadata={"static": True})
    states: tuple[tuple[str, int], ...] = dataclasses.field(metadata={"static": True})
    cameras: tuple[tuple[str, tuple[int, int, int]], ...] = dataclasses.field(metadata={"static": True})
    position: int = dataclasses.field(metadata={"static": True})

    def lead(self, history: Any, obs_horizon: int) -> tuple[int, ...]:
        """`(obs_horizon,)` or `(B, obs_horizon)` of a history; ValueError for one that does not fit.

        It maps every name to its observations: numbers `[obs_horizon, n]`, images `[obs_horizon, H, W, C]` as floats in
        0..1 or as bytes; or `[B, ..]`.
        """
        wanted: dict[str, tuple[int, ...]] = {name: (size,) for name, size in self.states} | dict(self.cameras)
        if not isinstance(history, Mapping) or set(history) != set(wanted):
            found = sorted(history) if isinstance(history, Mapping) else type(history).__name__
            raise ValueError(f"this policy sees images: history must map {sorted(wanted)} to observations, got {found}")
        first = jnp.shape(history[self.states[0][0]]) if self.states else jnp.shape(history[self.cameras[0][0]])
        lead = first[:2] if len(first) == 2 + len(next(iter(wanted.values()))) else first[:1]
        for name, shape in wanted.items():
            array = history[name]
            if jnp.shape(array) != (*lead, *shape) or lead[-1:] != (obs_horizon,):
                inner = ", ".join(map(str, shape))
                raise ValueError(
                    f"history[{name!r}] must be [{obs_horizon}, {inner}] or [B, {obs_horizon}, {inner}], got "
                    f"{jnp.shape(array)}; repeat the first observation at the beginning of an episode"
                )
            dtype = jnp.result_type(array)
            if len(shape) == 3 and dtype != jnp.uint8 and not jnp.issubdtype(dtype, jnp.floating):
                raise ValueError(f"history[{name!r}] must be bytes (uint8) or floats in 0..1, got {dtype}")
        return lead

    def features(self, observation: Normalizer, history: Mapping[str, Array]) -> Array:
        """The conditioning `[B, obs_horizon, O + F]` of a history with leading axes `[B, obs_horizon]`."""
        vector = jnp.concatenate([jnp.asarray(history[name], jnp.float32) for name, _ in self.states], axis=-1)
        vector = observation.normalize(vector)
        images = []
        for (name, shape), mean, std in zip(self.cameras, self.mean, self.std, strict=True):
            image = jnp.asarray(history[name])
            image = image.astype(jnp.float32) / (255.0 if image.dtype == np.uint8 else 1.0)
            mean, std = (jnp.broadcast_to(each, image.shape) for each in (mean, std))
            images.append(((image - mean) / std).reshape(-1, *shape))
        found = self.encode(self.params, tuple(images)).reshape(*vector.shape[:2], -1)
        before, after = jnp.split(vector, [self.position], axis=-1)
        return jnp.concatenate([before, found.astype(vector.dtype), after], axis=-1)
