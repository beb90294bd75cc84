"""An episode of a robot: frames, rounds of every decision, and how one decision's plan develops from round to round."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import PIL.Image
from rich.console import Console

from experiments.common.figures import RESULTS, command_line, write_result
from experiments.gallery.follow import TOL, best, follow, numbers, options
from experiments.gallery.sprites import save
from experiments.robots import environments
from experiments.robots.evaluate import adapter_of, policy_of
from pcm_jax.policy import Controller, Decision, Policy
from pcm_jax.pretrained import load_policy
from pcm_jax.types import Array

CROPS = {"pusht": ((60, 220, 440), (60, 220, 440)), "metaworld": ((285, 375, 810), (488, 638, 285))}
"""Column, line and size of the squares that are kept of pictures, where something moves: of the film, of the scene."""
PIXELS = 1440
"""Of Meta-World's pictures."""
FRAME, SCENE = 160, 360
"""Pixels of a frame of the film, and of the scene under the plans."""


@dataclasses.dataclass(frozen=True)
class Episode:
    """Run one episode with the best sampler, and every method at one of its decisions.

    number: of the episode. decision: the one that is followed. frames: of the film.
    """

    task: str = "pusht"
    number: int = 17
    decision: int = 9
    frames: int = 12
    results: Path = RESULTS
    seed: int = 0


@dataclasses.dataclass
class _Film:
    """What happened: rounds of each decision, a picture after each step, and what the followed decision saw."""

    world: environments.Environment
    followed: int
    rounds: list[int] = dataclasses.field(default_factory=list)
    pictures: list[np.ndarray] = dataclasses.field(default_factory=list)
    seen: tuple[Any, Array] | None = None

    def decided(self, decision: Decision, history: np.ndarray, keys: Array) -> None:
        if len(self.rounds) == self.followed:
            self.seen = history, keys
        self.rounds.append(int(decision.out.stats.rounds[0]))


def run_episode(config: Episode, console: Console) -> Path:
    """`gallery_<policy>.webp`, the film, `gallery_<policy>_scene.webp`, and JSON with plans in the scene's pixels."""
    world = environments.make(config.task, pictures=True, size=PIXELS)
    policy = load_policy(policy_of(config.task))
    methods = options(policy.prior, adapter_of(policy))
    film = _Film(world, config.decision)
    paths: dict[str, Any] = {}
    scene, last = _run(config, policy, film, methods, paths)
    name, (film_crop, scene_crop) = f"gallery_{policy.name}", CROPS[policy.name]
    shown = np.unique(np.linspace(0, len(film.pictures) - 1, config.frames).round().astype(int))
    frames = [_cut(film.pictures[index], film_crop, FRAME) for index in shown]
    save(config.results / f"{name}.webp", np.concatenate(frames, axis=1), quality=85)
    save(config.results / f"{name}_scene.webp", _cut(scene, scene_crop, SCENE), quality=85)
    payload = {
        "picture": f"{name}.webp",
        "scene": f"{name}_scene.webp",
        "line": [FRAME, FRAME * len(frames)],
        "frames": (shown + 1).tolist(),
        "solver": f"DDPM-{len(policy.solver)}",
        "steps": len(policy.solver),
        "acts": len(film.pictures),
        "success": last.success,
        "score": last.score,
        "decisions": film.rounds,
        "method": best(methods),
        "executed": policy.action_horizon,
    }
    command = command_line("experiments.gallery episode", config, always=("task",), never=("results",))
    about = dataclasses.replace(config, results=Path("."))
    write_result(name, payload | paths, config=about, seed=config.seed, command=command, results=config.results)
    console.print(f"wrote {config.results / name}.webp")
    return config.results / f"{name}.webp"


def _run(
    config: Episode, policy: Policy, film: _Film, methods: dict[str, dict[str, Any]], paths: dict[str, Any]
) -> tuple[np.ndarray, environments.Step]:
    """The episode to its end; fills `paths` at the followed decision and returns that scene and the last step."""
    world, scene = film.world, None
    key = jax.random.fold_in(jax.random.key(config.seed), config.number)
    sampler = policy.picard(tol=TOL, **methods[best(methods)])
    controller = Controller(sampler, key[None], on_decision=film.decided)
    observation = world.reset(config.number)
    for _ in range(world.max_steps):
        action = controller.act(observation[None])[0]
        if film.seen is not None and scene is None:
            scene = world.picture()
            paths |= _plans(config, policy, film, methods)
        step = world.step(action)
        observation = step.observation
        film.pictures.append(world.picture())
        if step.done:
            break
    if scene is None:
        raise ValueError(
            f"episode {config.number} ended after {len(film.rounds)} decisions; follow one before {config.decision}"
        )
    return scene, step


def _plans(config: Episode, policy: Policy, film: _Film, methods: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Every method's numbers at this decision, and its plans after each round."""
    assert film.seen is not None
    history, keys = film.seen
    exact = np.asarray(policy.sequential().act(history, keys).plan)
    followed = follow(lambda **how: policy.picard(**how).act(history, keys).out, exact, methods)
    left, top, size = CROPS[policy.name][1]

    def drawn(chunks: np.ndarray) -> Any:
        # The chunk begins with what was seen before; the plan with the action for now.
        actions = np.asarray(policy.action.unnormalize(chunks))[..., policy.obs_horizon - 1 :, :]
        return np.round((film.world.path(actions) - (left, top)) * SCENE / size, 1).tolist()

    return numbers(followed) | {
        "plans": {"sequential": [drawn(exact[0])]} | {name: drawn(one.states[:, 0]) for name, one in followed.items()}
    }


def _cut(picture: np.ndarray, crop: tuple[int, int, int], size: int) -> np.ndarray:
    left, top, width = crop
    cut = PIL.Image.fromarray(picture).crop((left, top, left + width, top + width))
    return np.asarray(cut.resize((size, size), PIL.Image.Resampling.LANCZOS))
