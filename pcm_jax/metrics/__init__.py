"""Distances to the exact sample, rounds to a given distance, and timings that can be compared."""

from pcm_jax.metrics.distance import max_difference, rms_error, rounds_to
from pcm_jax.metrics.timing import Timing, paired, time_call

__all__ = ["Timing", "max_difference", "paired", "rms_error", "rounds_to", "time_call"]
