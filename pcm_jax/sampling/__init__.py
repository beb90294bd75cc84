"""Samplers: sequential (the oracle) and Picard (the same sample in parallel rounds)."""

from pcm_jax.sampling.api import sample_picard, sample_sequential
from pcm_jax.sampling.guess import from_data

__all__ = ["from_data", "sample_picard", "sample_sequential"]
