"""Executors: the same round on one device, on many with `pmap` or `shard_map`, over a mesh that GSPMD partitions, or
inside the caller's own axis."""  # noqa: D205, D209

from pcm_jax.parallel.chunks import chunk_sizes, in_chunks
from pcm_jax.parallel.constrained import Constrained, constrained
from pcm_jax.parallel.executors import Executor, InsideAxis, inside, pmap, shard_map, single
from pcm_jax.parallel.layout import WHOLE, Along, Layout
from pcm_jax.parallel.spmd import WindowAxis, vary_like

__all__ = [
    "WHOLE",
    "Along",
    "Constrained",
    "Executor",
    "InsideAxis",
    "Layout",
    "WindowAxis",
    "chunk_sizes",
    "constrained",
    "in_chunks",
    "inside",
    "pmap",
    "shard_map",
    "single",
    "vary_like",
]
