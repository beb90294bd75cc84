"""Exact parallel sampling of diffusion models in JAX."""

from pcm_jax import parallel, schedules, solvers
from pcm_jax.results import ResultCode, SampleOutput, Stats
from pcm_jax.sampling import linearization, sample_picard, sample_sequential
from pcm_jax.sampling import residual as norms

__version__ = "0.1.0"

__all__ = [
    "ResultCode",
    "SampleOutput",
    "Stats",
    "linearization",
    "norms",
    "parallel",
    "sample_picard",
    "sample_sequential",
    "schedules",
    "solvers",
]
