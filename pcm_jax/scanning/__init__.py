"""Anybody's `lax.scan` in parallel rounds."""

from pcm_jax.scanning.api import scan

__all__ = ["scan"]
