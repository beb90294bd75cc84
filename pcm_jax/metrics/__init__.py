"""Distances to the exact sample and between sets of images, rounds to a given distance, and comparable timings."""

from pcm_jax.metrics.distance import max_difference, rms_error, rounds_to
from pcm_jax.metrics.efficientnet import load_features
from pcm_jax.metrics.features import Features
from pcm_jax.metrics.frechet import Moments, frechet_distance, kernel_distance
from pcm_jax.metrics.inception import load_inception
from pcm_jax.metrics.timing import Timing, paired, time_call

__all__ = [
    "Features",
    "Moments",
    "Timing",
    "frechet_distance",
    "kernel_distance",
    "load_features",
    "load_inception",
    "max_difference",
    "paired",
    "rms_error",
    "rounds_to",
    "time_call",
]
