"""Robot demonstrations: episodes on disk, their files elsewhere, normalisers, chunks to train on."""

from pcm_jax.data.robots.episodes import Demonstrations, Episode, read_episodes, write_episodes
from pcm_jax.data.robots.normalizer import Normalizer
from pcm_jax.data.robots.pusht import load_pusht
from pcm_jax.data.robots.windows import Chunk, ChunkSource, chunks

__all__ = [
    "Chunk",
    "ChunkSource",
    "Demonstrations",
    "Episode",
    "Normalizer",
    "chunks",
    "load_pusht",
    "read_episodes",
    "write_episodes",
]
