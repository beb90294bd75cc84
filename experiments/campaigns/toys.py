"""A tiny model and a tiny policy: what files and runs of the campaigns are made of."""

from __future__ import annotations

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
