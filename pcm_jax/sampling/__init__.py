"""Samplers: sequential (the oracle) and Picard (the same sample in parallel rounds)."""

from pcm_jax.sampling.api import sample_picard, sample_sequential

__all__ = ["sample_picard", "sample_sequential"]
