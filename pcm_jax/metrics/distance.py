"""Distance of a parallel sample from the sequential one with the same noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pcm_jax import checks
from pcm_jax.types import ArrayLike


def rms_error(sample: ArrayLike, reference: ArrayLike) -> float:
    """sqrt(mean((sample - reference)^2)) over samples and dimensions, in units of the data."""
    return float(np.sqrt(np.mean(_difference(sample, reference) ** 2)))


def max_difference(sample: ArrayLike, reference: ArrayLike) -> float:
    """max |sample - reference|, in units of the data."""
    return float(np.max(np.abs(_difference(sample, reference))))


def _difference(sample: ArrayLike, reference: ArrayLike) -> np.ndarray:
    a, b = checks.numbers("sample", sample), checks.numbers("reference", reference)
    if a.shape != b.shape or not a.size:
        raise ValueError(f"sample and reference must be of one shape and not empty, got {a.shape} and {b.shape}")
    return a - b


def rounds_to(errors: Sequence[float] | np.ndarray, threshold: float) -> int | None:
    """The first round from which on the error stays at or under `threshold`; None if it never does.

    Args:
        errors: after rounds 1, 2, ..
        threshold: in the errors' units.
    """
    checks.number("threshold", threshold)
    errors = checks.numbers("errors", errors)
    if errors.ndim != 1:
        raise ValueError(f"errors must be one number after each round, got {checks.shown(errors)}")
    above = [index for index, error in enumerate(errors, start=1) if not error <= threshold]
    first = above[-1] + 1 if above else 1
    return first if first <= len(errors) else None
