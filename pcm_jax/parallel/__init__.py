"""Executors: the same round on one device, on many with `pmap` or `shard_map`, or inside the caller's own axis."""

from pcm_jax.parallel.chunks import chunk_sizes, in_chunks
from pcm_jax.parallel.executors import Executor, InsideAxis, inside, pmap, shard_map, single
from pcm_jax.parallel.spmd import WindowAxis, vary_like

__all__ = [
    "Executor",
    "InsideAxis",
    "WindowAxis",
    "chunk_sizes",
    "in_chunks",
    "inside",
    "pmap",
    "shard_map",
    "single",
    "vary_like",
]
