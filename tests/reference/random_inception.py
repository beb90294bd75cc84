"""Random weights of FID's Inception, by key and shape, that keep activations of order 1: NumPy alone."""

from __future__ import annotations

import zlib

import numpy as np


def weight(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32; convolutions with the gain that a ReLU takes away, batch norms that do something."""
    draw = np.random.default_rng(zlib.crc32(f"{key} {shape}".encode())).standard_normal(shape)
    if len(shape) > 1:
        draw *= np.sqrt(2 / np.prod(shape[1:]))
    elif key.endswith(("bias", "mean")):
        draw *= 0.1
    else:
        draw = 1.0 + 0.1 * draw
    return draw.astype(np.float32)


def pictures() -> np.ndarray:
    """uint8 `[3, 40, 70, 3]`: they are enlarged along both axes."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (3, 5, 7, 3))
    return (coarse.repeat(8, axis=1).repeat(10, axis=2) * random.uniform(0.7, 1.0, (3, 40, 70, 1))).astype(np.uint8)
