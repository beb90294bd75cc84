"""Demonstrations: episodes of observations and actions, and sets of them on disk in the layout of RLDS.

A set is an ordinary TFDS dataset whose examples have `steps` (arXiv 2111.02767): observation, action, reward, is_first,
is_last. It is read without TensorFlow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pcm_jax import checks
from pcm_jax.data.records import Records, write_records


@dataclasses.dataclass(frozen=True, eq=False)
class Episode:
    """observation float32 `[L, O]`, action float32 `[L, A]` done after seeing it, reward float32 `[L]` got for it."""

    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray

    def __post_init__(self) -> None:
        for name in ("observation", "action", "reward"):
            object.__setattr__(self, name, checks.numbers(name, getattr(self, name)).astype(np.float32))
        if not self.action.size:
            raise ValueError("an episode is empty; drop it")
        shapes = [self.observation.shape, self.action.shape, self.reward.shape]
        if [len(shape) for shape in shapes] != [2, 2, 1] or len({shape[0] for shape in shapes}) > 1:
            raise ValueError(f"observation, action and reward must be [L, O], [L, A] and [L], got {shapes}")
        for name in ("observation", "action", "reward"):
            if not np.isfinite(getattr(self, name)).all():
                step = int(np.argwhere(~np.isfinite(getattr(self, name)))[0][0])
                raise ValueError(f"{name} is NaN or inf at step {step}; drop the episode or mend its source")

    def __len__(self) -> int:
        return len(self.action)


@dataclasses.dataclass(frozen=True, eq=False)
class Demonstrations:
    """Episodes of one robot. name: of the data, for cards and errors."""

    episodes: tuple[Episode, ...]
    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.episodes, tuple) or not all(isinstance(each, Episode) for each in self.episodes):
            raise ValueError(f"episodes must be a tuple of Episode, got {checks.shown(self.episodes)}")
        if not self.episodes:
            raise ValueError(f"{self.name} has no episodes")
        sizes = {(e.observation.shape[1], e.action.shape[1]) for e in self.episodes}
        if len(sizes) > 1:
            raise ValueError(f"{self.name} mixes episodes of {sorted(sizes)} observations and actions")


def write_episodes(
    directory: str | Path,
    make: Callable[[range], Iterable[Episode]],
    count: int,
    sizes: tuple[int, int],
    about: Mapping[str, Any],
    *,
    per_shard: int = 10,
) -> None:
    """Write `count` episodes; a set whose writing was stopped goes on with the first shard that is missing.

    Args:
        directory: of the set.
        make: numbers -> these episodes, the same whenever they are asked for.
        sizes: numbers in an observation and in an action.
        about: JSON that says what the set holds.
        per_shard: episodes in a file.

    Raises:
        ValueError: the folder holds another set, or an episode has other sizes.
    """
    starts = range(0, count, per_shard)
    step = {
        "observation": ((sizes[0],), "float32"),
        "action": ((sizes[1],), "float32"),
        "reward": ((), "float32"),
        "is_first": ((), "bool"),
        "is_last": ((), "bool"),
    }

    def shard(index: int) -> Iterator[dict[str, Any]]:
        numbers = range(starts[index], min(starts[index] + per_shard, count))
        for number, episode in zip(numbers, make(numbers), strict=True):
            found = (episode.observation.shape[1], episode.action.shape[1])
            if found != sizes:
                raise ValueError(f"episode {number} has {found} observations and actions, the set {sizes}")
            yield {"steps": _steps(episode), "number": np.int64(number)}

    lengths = [min(start + per_shard, count) - start for start in starts]
    write_records(directory, {"steps": step, "number": ((), "int64")}, lengths, shard, about)


def read_episodes(directory: str | Path) -> Demonstrations:
    """A set that `write_episodes` finished.

    Raises:
        ValueError: nothing there, not finished, or damaged.
    """
    records = Records(directory)
    if "steps" not in records.features:
        raise ValueError(f"{directory} holds other records than episodes, it has {sorted(records.features)}")
    return read_steps(records, (), Path(directory).name, last_action=True)


def read_steps(source: Any, keys: Sequence[str], name: str, *, last_action: bool) -> Demonstrations:
    """Episodes of a TFDS data source."""
    episodes = []
    for number in range(len(source)):
        steps = list(source[number]["steps"])
        steps = steps if last_action else steps[:-1]
        try:
            if not steps:
                raise ValueError("an episode is empty; drop it")
            arrays = {part: np.stack([np.asarray(step[part]) for step in steps]) for part in ("action", "reward")}
            observation = np.stack([_observation(step["observation"], keys) for step in steps])
            episodes.append(Episode(observation, arrays["action"], arrays["reward"]))
        except ValueError as error:
            raise ValueError(f"{name}, episode {number}: {error}") from error
    return Demonstrations(tuple(episodes), name)


def _observation(seen: Any, keys: Sequence[str]) -> np.ndarray:
    if not isinstance(seen, Mapping):
        if keys:
            raise ValueError(f"it has one observation; keys must be empty, got {tuple(keys)}")
        return np.asarray(seen)
    if not keys or any(key not in seen for key in keys):
        raise ValueError(f"keys must be among its observations {', '.join(sorted(seen))}, got {tuple(keys)}")
    return np.concatenate([np.ravel(seen[key]) for key in keys])


def _steps(episode: Episode) -> list[dict[str, Any]]:
    last = len(episode) - 1
    return [
        {
            "observation": episode.observation[index],
            "action": episode.action[index],
            "reward": episode.reward[index],
            "is_first": index == 0,
            "is_last": index == last,
        }
        for index in range(len(episode))
    ]
