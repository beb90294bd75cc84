"""Small random-weight policies of both codes and every option that `pretrained.load_unet1d` reads: NumPy alone."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

FILE = "model.safetensors"
BATCH = 2
HORIZONS = (8, 16, 32)
_CASE = {
    "layout": "original",
    "channels": (16, 24),
    "embed": 8,
    "kernel_size": 5,
    "n_groups": 8,
    "film_scale": True,
    "actions": 2,
    "cond": 10,
}
CASES: dict[str, dict[str, Any]] = {
    "policy": _CASE,
    "policy-bias": _CASE | {"film_scale": False, "kernel_size": 3, "actions": 7},
    "policy-unconditional": _CASE | {"cond": 0, "channels": (16,), "n_groups": 4},
    "policy-lerobot": _CASE | {"layout": "LeRobot", "channels": (16, 24, 32)},
    "policy-lerobot-groups": _CASE | {"layout": "LeRobot", "n_groups": 4, "film_scale": False, "embed": 12},
}


def inputs(name: str, horizon: int) -> dict[str, np.ndarray]:
    """x `[B, horizon, actions]`, t `[B]`, and cond `[B, n]` if there is one; float32."""
    case = CASES[name]
    rng = np.random.default_rng(zlib.crc32(f"{name} {horizon}".encode()))
    found = {"x": rng.standard_normal((BATCH, horizon, case["actions"])), "t": np.array([3.0, 97.0])}
    if case["cond"]:
        found["cond"] = rng.standard_normal((BATCH, case["cond"]))
    return {key: value.astype(np.float32) for key, value in found.items()}
