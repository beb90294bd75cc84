"""Anybody's `lax.scan` in parallel rounds."""

from pcm_jax.scanning.api import scan
from pcm_jax.scanning.sequential import scan_sequential

__all__ = ["scan", "scan_sequential"]
