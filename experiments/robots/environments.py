"""The simulators behind one interface: gym-pusht, and eight tasks of Meta-World.

An episode is fixed by its number alone: Push-T resets with the seed 100000 + number, Meta-World takes variant `number`
of a task, which no demonstration was made on.
"""

from __future__ import annotations

import functools
import os
import warnings
from typing import Any, NamedTuple, Protocol

import numpy as np

METAWORLD = (
    "reach",
    "push",
    "pick-place",
    "door-open",
    "drawer-close",
    "button-press-topdown",
    "peg-insert-side",
    "assembly",
)
TASKS = ("pusht", *METAWORLD)
_T_POINTS = np.array([[-60.0, 0.0], [60.0, 0.0], [0.0, 120.0]])
"""Ends of the T's bar and of its stem, in pixels from the body's origin."""
_CAMERA = "corner2"


class Step(NamedTuple):
    """After an action. score: the best so far, of 1; done: nothing more can change it."""

    observation: np.ndarray
    score: float
    success: bool
    done: bool


class Environment(Protocol):
    """One robot. Actions are in its own units and are clipped to its bounds."""

    max_steps: int

    def reset(self, number: int) -> np.ndarray: ...

    def step(self, action: np.ndarray) -> Step: ...

    def picture(self) -> np.ndarray:
        """uint8 `[H, W, 3]`."""

    def path(self, actions: np.ndarray) -> np.ndarray:
        """Where in `picture` the actions `[.., n, A]` lead from now: columns and lines, `[.., n, 2]`."""


def make(task: str, *, pictures: bool = False, size: int = 480) -> Environment:
    """The simulator of a task. pictures: Meta-World is to draw them too, of this size.

    Raises:
        ValueError: an unknown task, or the simulators are not installed.
    """
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}; choose one of {', '.join(TASKS)}")
    try:
        return PushT() if task == "pusht" else MetaWorld(task, pictures=pictures, size=size)
    except ImportError as error:
        raise ValueError(
            f"the simulator of {task} is not installed ({error}): pip install 'pcm-jax[robots]'"
        ) from error


def pusht_features(state: np.ndarray) -> np.ndarray:
    """`[.., 8]` of states `[.., 5]` (agent x, y, block x, y, angle): the agent and three points of the T, in pixels.

    Without the angle itself, which jumps by 2 pi.
    """
    state = np.asarray(state, np.float64)
    cos, sin = np.cos(state[..., 4]), np.sin(state[..., 4])
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    points = np.einsum("...ij,kj->...ki", turn, _T_POINTS) + state[..., None, 2:4]
    return np.concatenate([state[..., :2], points.reshape(*state.shape[:-1], 6)], axis=-1).astype(np.float32)


class PushT:
    """Push a T onto its outline. score: largest coverage so far / 0.95, at most 1."""

    max_steps = 300
    first_seed = 100_000

    def __init__(self) -> None:
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pygame's, about pkg_resources
            import gym_pusht  # noqa: F401 - registers the environment
            import gymnasium
        self._env: Any = gymnasium.make("gym_pusht/PushT-v0", obs_type="state", render_mode="rgb_array")
        self._best = 0.0

    def reset(self, number: int) -> np.ndarray:
        self._best = 0.0
        return pusht_features(self._env.reset(seed=self.first_seed + number)[0])

    def step(self, action: np.ndarray) -> Step:
        action = np.clip(np.asarray(action, np.float32), self._env.action_space.low, self._env.action_space.high)
        state, reward, ended, _, _ = self._env.step(action)
        # The last bits of the overlap's area differ between two processes that do the same.
        self._best = max(self._best, round(float(reward), 9))
        return Step(pusht_features(state), self._best, bool(ended), bool(ended))

    def picture(self) -> np.ndarray:
        return np.asarray(self._env.render(), np.uint8)

    def path(self, actions: np.ndarray) -> np.ndarray:
        """Actions are places already; the picture has more pixels than the plane has units."""
        plane = self._env.action_space
        return np.clip(np.asarray(actions), plane.low, plane.high) * self.picture().shape[1] / plane.high


@functools.cache
def _variants(name: str) -> tuple[Any, list[Any], list[Any]]:
    """(class, held-out variants, those of demonstrations); drawing them takes seconds."""
    import metaworld

    held_out, *demonstrated = (metaworld.MT1(name, seed=seed) for seed in (1, 0, 2))
    return (
        held_out.train_classes[name],
        held_out.train_tasks,
        [task for one in demonstrated for task in one.train_tasks],
    )


class MetaWorld:
    """A task of Meta-World; observations are followed by the task's one-hot code. score: 1 once it succeeded.

    Numbers from 0 to 49 are held-out variants of the task, numbers from -1 to -100 those for demonstrations.
    """

    max_steps = 500

    def __init__(self, task: str, *, pictures: bool = False, size: int = 480) -> None:
        from metaworld.policies import ENV_POLICY_MAP

        self.task, name = task, f"{task}-v3"
        kind, *self._tasks = _variants(name)
        # Asking for a picture needs a display or a GPU driver; without one nothing is drawn.
        options = {"render_mode": "rgb_array", "camera_name": _CAMERA, "width": size, "height": size}
        self._env: Any = kind(**(options if pictures else {}))
        self._code = np.eye(len(METAWORLD), dtype=np.float32)[METAWORLD.index(task)]
        self._expert: Any = ENV_POLICY_MAP[name]
        self._raw = np.zeros(39)

    def reset(self, number: int) -> np.ndarray:
        tasks = self._tasks[0 if number >= 0 else 1]
        self._env.set_task(tasks[(number if number >= 0 else -number - 1) % len(tasks)])
        return self._observe(self._env.reset()[0])

    def step(self, action: np.ndarray) -> Step:
        raw, _, _, _, info = self._env.step(np.clip(np.asarray(action, np.float64), -1.0, 1.0))
        success = bool(info["success"] > 0)
        return Step(self._observe(raw), float(success), success, success)

    def expert(self) -> np.ndarray:
        """What the scripted expert does now, clipped to [-1, 1]."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its constants may exceed the bounds, says the simulator
            return np.clip(np.asarray(self._policy.get_action(self._raw), np.float32), -1.0, 1.0)

    def picture(self) -> np.ndarray:
        try:
            return np.asarray(self._env.render(), np.uint8)[::-1]
        # Drivers that are missing fail with exceptions of many unrelated classes.
        except Exception as error:
            raise ValueError(
                f"Meta-World draws with OpenGL, which failed here ({type(error).__name__}: {error}). Without a "
                "display: apt-get install libosmesa6, then MUJOCO_GL=osmesa python -m experiments.robots ..; "
                "MUJOCO_GL=egl with the driver of a GPU"
            ) from error

    def path(self, actions: np.ndarray) -> np.ndarray:
        """The hand's places if it went as far as it is told, seen by the camera."""
        world, model, data = self._env, self._env.model, self._env.data
        moves = np.clip(np.asarray(actions, np.float64)[..., :3], -1.0, 1.0) * world.action_scale
        places = np.clip(self._raw[:3] + np.cumsum(moves, axis=-2), world.mocap_low, world.mocap_high)
        camera = model.camera(_CAMERA).id
        x, y, z = np.moveaxis((places - data.cam_xpos[camera]) @ data.cam_xmat[camera].reshape(3, 3), -1, 0)
        size = world.mujoco_renderer.height
        scale = size / 2 / np.tan(np.deg2rad(model.cam_fovy[camera]) / 2)
        # It looks along -z; `picture` turns the lines around.
        return np.stack([size / 2 - scale * x / z, size / 2 - scale * y / z], axis=-1)

    def _observe(self, raw: np.ndarray) -> np.ndarray:
        if self._env.curr_path_length == 0:
            self._policy = self._expert()
        self._raw = np.asarray(raw)
        return np.concatenate([np.asarray(raw, np.float32), self._code])
