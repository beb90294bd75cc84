"""From images to features, batch by batch: what both networks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pcm_jax import checks
from pcm_jax.types import Array, ArrayLike

Features = Callable[[ArrayLike], np.ndarray]
"""Images uint8 `[N, H, W, 1 or 3]` -> features float32 `[N, D]`."""


def batched(network: Callable[[Any, Any], Array], weights: Any, batch_size: int) -> Features:
    """`network(weights, images)` on any number of images.

    Args:
        network: jitted; takes uint8 images `[batch_size, H, W, 1 or 3]`.
        weights: its first argument.
        batch_size: a last, smaller batch is padded, so that nothing compiles again.

    Returns:
        A function that raises ValueError where its argument is no such images.
    """
    checks.whole("batch_size", batch_size)

    def features(images: ArrayLike) -> np.ndarray:
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
            raise ValueError(
                f"images must be uint8 [N, H, W, 1 or 3] with values 0..255, got {images.dtype} {images.shape}"
            )
        found = []
        for start in range(0, len(images), batch_size):
            part = images[start : start + batch_size]
            padded = np.concatenate([part, np.zeros((batch_size - len(part), *part.shape[1:]), np.uint8)])
            found.append(np.asarray(network(weights, padded))[: len(part)])
        return np.concatenate(found)

    return features
