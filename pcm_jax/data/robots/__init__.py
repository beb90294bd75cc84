"""Robot demonstrations: episodes on disk, their files elsewhere, normalisers, chunks to train on."""

from pcm_jax.data.robots.episodes import Demonstrations, Episode, read_episodes, write_episodes
from pcm_jax.data.robots.normalizer import Normalizer
from pcm_jax.data.robots.pusht import load_pusht
from pcm_jax.data.robots.rlds import load_rlds
from pcm_jax.data.robots.robomimic import LOW_DIM, load_robomimic
from pcm_jax.data.robots.windows import Chunk, ChunkSource, chunks

__all__ = [
    "LOW_DIM",
    "Chunk",
    "ChunkSource",
    "Demonstrations",
    "Episode",
    "Normalizer",
    "chunks",
    "load_pusht",
    "load_rlds",
    "load_robomimic",
    "read_episodes",
    "write_episodes",
]
