"""A tiny model, a tiny policy, demonstrations and a simulator: what files and runs of the campaigns are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pcm_jax import pretrained

CONFIG = pretrained.ModelConfig(
    name="tiny",
    network={"name": "mlp", "width": 8, "depth": 1, "num_classes": 3},
    schedule={"name": "linear_vp", "num_train_steps": 50},
    prediction="epsilon",
    sample_shape=(4, 1),
    num_classes=3,
    data_std=1.0,
    clip=1.0,
    parameters=0,
)
POLICY = pretrained.PolicyConfig(
    name="tiny",
    network={"name": "mlp", "width": 8, "depth": 1, "observations": True},
    num_steps=10,
    observation_size=3,
    action_size=2,
    obs_horizon=2,
    horizon=8,
    action_horizon=4,
    tasks=("toy",),
)


def drawn(shapes: Any) -> Any:
    """Numbers for shapes."""
    draws = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(0.1 * draws.normal(size=leaf.shape), leaf.dtype), shapes)


def model() -> pretrained.Pretrained:
    """The model that the adapter belongs to."""
    model_fn, shapes = CONFIG.build()
    return pretrained.Pretrained(
        "tiny", model_fn, drawn(shapes), CONFIG.build_schedule(), "epsilon", (4, 1), 3, 1.0, 1.0, CONFIG, ""
    )


def write_walk(folder: Path) -> None:
    """Three Push-T episodes long enough for chunks."""
    import zarr

    place = np.cumsum(np.random.default_rng(0).normal(scale=3.0, size=(120, 5)), axis=0).astype(np.float32) + 250
    group = zarr.open_group(str(folder), mode="w", zarr_format=2)
    group.create_array("data/state", data=place)
    group.create_array("data/action", data=place[:, :2] + 5)
    group.create_array("meta/episode_ends", data=np.asarray((40, 70, 120), np.int64))


class Toy:
    """A point that an action moves."""

    max_steps = 12

    def reset(self, number: int) -> np.ndarray:
        self.number, self.count, self.place = number, 0, np.array([0.1 * number, 0.5, 0.5], np.float32)
        return self.place.copy()

    def step(self, action: np.ndarray) -> Any:
        from experiments.robots.environments import Step  # simulators may be missing where only files are read

        self.count += 1
        self.place = np.clip(self.place + 0.01 * np.append(action, 1.0), 0, 1).astype(np.float32)
        done = self.count >= 6 + self.number
        return Step(self.place.copy(), self.count / 12, done, done)
