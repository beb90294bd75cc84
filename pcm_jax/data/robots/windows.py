"""Training examples of a diffusion policy: chunks of actions with the observations before them."""

from __future__ import annotations

import dataclasses
from typing import TypedDict

import numpy as np

from pcm_jax import checks
from pcm_jax.data.robots.episodes import Demonstrations
from pcm_jax.data.robots.normalizer import Normalizer


class Chunk(TypedDict):
    """x: actions `[n, horizon, A]`, cond: observations `[n, obs_horizon, O]`, both normalised."""

    x: np.ndarray
    cond: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class ChunkSource:
    """All chunks of the set `name`. index: int `[N, horizon]`, the steps of each, repeated at an episode's ends."""

    name: str
    observation: np.ndarray
    action: np.ndarray
    index: np.ndarray
    obs_horizon: int

    def __len__(self) -> int:
        return len(self.index)

    def gather(self, index: np.ndarray) -> Chunk:
        """The chunks at `index`."""
        steps = self.index[index]
        return Chunk(x=self.action[steps], cond=self.observation[steps[:, : self.obs_horizon]])


def chunks(
    demonstrations: Demonstrations,
    observation: Normalizer,
    action: Normalizer,
    *,
    obs_horizon: int = 2,
    horizon: int = 16,
    action_horizon: int = 8,
) -> ChunkSource:
    """Every stretch of `horizon` steps, a chunk for each step of the demonstrations and a few more.

    A chunk may begin obs_horizon - 1 steps before its episode and end action_horizon - 1 after it; the first and the
    last step are repeated there. Number obs_horizon - 1 of a chunk is the step that its last observation was made at.
    Reference: Diffusion Policy (arXiv 2303.04137), its `SequenceSampler`.
    """
    if not isinstance(demonstrations, Demonstrations):
        raise ValueError(f"demonstrations must be Demonstrations, got {checks.shown(demonstrations)}")
    for name, value in (("observation", observation), ("action", action)):
        if not isinstance(value, Normalizer):
            raise ValueError(f"{name} must be a Normalizer of the demonstrations, got {checks.shown(value)}")
    for name, size in (("obs_horizon", obs_horizon), ("horizon", horizon), ("action_horizon", action_horizon)):
        checks.whole(name, size)
    if not 1 <= obs_horizon <= horizon or not 1 <= action_horizon <= horizon:
        raise ValueError(
            f"obs_horizon and action_horizon lie in 1..horizon, got {obs_horizon}, {action_horizon} and {horizon}"
        )
    first, rows = 0, []
    for episode in demonstrations.episodes:
        length = len(episode)
        starts = np.arange(1 - obs_horizon, length + action_horizon - horizon)
        steps = np.clip(starts[:, None] + np.arange(horizon), 0, length - 1)
        rows.append(first + steps)
        first += length
    index = np.concatenate(rows)
    if not len(index):
        raise ValueError(f"no episode of {demonstrations.name} is long enough for a chunk of {horizon} steps")
    whole = [np.concatenate([getattr(e, name) for e in demonstrations.episodes]) for name in ("observation", "action")]
    return ChunkSource(
        demonstrations.name,
        np.asarray(observation.normalize(whole[0]), np.float32),
        np.asarray(action.normalize(whole[1]), np.float32),
        index,
        obs_horizon,
    )
