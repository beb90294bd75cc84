"""Demonstrations of Meta-World's scripted experts, kept when they succeed.

    python -m experiments.robots collect

Every second one is disturbed: what is carried out is the expert's action plus noise, what is recorded is the expert's
action, so that the data shows the way back (DART, arXiv 1703.09327). Variants of the tasks are those of seeds 0 and 2;
the evaluation uses seed 1.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from tqdm import tqdm

from experiments.robots.environments import METAWORLD, MetaWorld
from pcm_jax.data.robots import Demonstrations, Episode, read_episodes, write_episodes

FOLDER = Path("experiments/out/robots/demonstrations")


@dataclasses.dataclass(frozen=True)
class Collect:
    """Make demonstrations.

    tasks: of Meta-World. episodes: of each. noise: standard deviation, of actions in [-1, 1], in every second one.
    linger: steps recorded after the success, so that a policy learns to stay. out: gets a folder for each task.
    """

    tasks: tuple[str, ...] = METAWORLD
    episodes: int = 100
    noise: float = 0.3
    linger: int = 8
    seed: int = 0
    out: Path = FOLDER


def run_collect(config: Collect, console: Console) -> None:
    """Write one set for each task; those that are there are left alone."""
    for task in config.tasks:
        about = {"task": task, "episodes": config.episodes, "noise": config.noise, "seed": config.seed}
        about["linger"] = config.linger
        world = MetaWorld(task)
        # tqdm, not rich: TFDS swaps Python's import while it is loaded, which rich's own thread does not survive.
        with tqdm(total=config.episodes, desc=task, unit="episode", mininterval=2.0) as bar:
            make = functools.partial(_shard, world, config, bar)
            write_episodes(config.out / task, make, config.episodes, (len(world.reset(0)), 4), about)
    console.print(f"demonstrations are in {config.out}")


def _shard(world: MetaWorld, config: Collect, bar: Any, numbers: range) -> Iterator[Episode]:
    bar.update(numbers.start - bar.n)
    for number in numbers:
        yield demonstrate(world, number, config)
        bar.update()


def demonstrate(world: MetaWorld, number: int, config: Collect) -> Episode:
    """Demonstration `number`, always the same: variant `number` of the task, tried with fresh noise until it succeeds.

    Raises:
        RuntimeError: it never did.
    """
    for attempt in range(10):
        noise = np.random.default_rng([config.seed, number, attempt])
        # A variant that the undisturbed expert cannot solve is replaced by the next one.
        variant = -1 - number - attempt
        episode = _attempt(world, variant, config.noise if number % 2 else 0.0, config.linger, noise)
        if episode is not None:
            return episode
    raise RuntimeError(f"the expert never succeeded in demonstration {number} of {world.task}; lower the noise")


def _attempt(
    environment: MetaWorld, number: int, deviation: float, linger: int, noise: np.random.Generator
) -> Episode | None:
    seen, done, rewards = [environment.reset(number)], list[np.ndarray](), list[np.float32]()
    left = None
    while left != 0 and len(done) < environment.max_steps:
        action = environment.expert()
        disturbed = np.clip(action + deviation * noise.standard_normal(action.shape), -1.0, 1.0)
        step = environment.step(disturbed)
        done.append(action)
        rewards.append(np.float32(step.success))
        seen.append(step.observation)
        left = left - 1 if left is not None else (linger if step.success else None)
    if left is None:
        return None
    return Episode(np.stack(seen[:-1]), np.stack(done).astype(np.float32), np.asarray(rewards, np.float32))


def load(tasks: tuple[str, ...], folder: Path = FOLDER) -> Demonstrations:
    """The sets of several tasks as one."""
    sets = []
    for task in tasks:
        try:
            sets.append(read_episodes(folder / task))
        except ValueError as error:
            raise ValueError(f"{error}. Demonstrations are made by: python -m experiments.robots collect") from error
    return Demonstrations(tuple(episode for one in sets for episode in one.episodes), "+".join(tasks))
