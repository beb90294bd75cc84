"""Small random-weight policies of LeRobot that see images, with every option that `load_lerobot` reads: NumPy alone."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

try:  # beside this file for make_models.py, in its package for the tests
    import lerobot_config
except ImportError:
    from tests.reference import lerobot_config

NORMALIZER = "policy_preprocessor_step_3_normalizer_processor.safetensors"
"""Where LeRobot has the statistics since 2025."""

BATCH, STEPS, HORIZON, ACTIONS = 2, 2, 8, 2
WIDTH = 16
"""Channels of the first level; a ResNet-18 has 64."""

UNET = {
    "layout": "LeRobot",
    "channels": (16, 24),
    "embed": 8,
    "kernel_size": 5,
    "n_groups": 8,
    "film_scale": True,
    "actions": ACTIONS,
}
_CASE = {
    "cameras": {"observation.image": (3, 48, 61)},
    "state": 2,
    "environment": 0,
    "crop": None,
    "resize": None,
    "ratio": 1.0,
    "keypoints": 4,
    "batch_norm": False,
    "separate": False,
    "stages": (2, 2, 2, 2),
    "old": False,
    "visual": "MEAN_STD",
    "numbers": "MIN_MAX",
}
_TWO = {"observation.images.top": (3, 40, 56), "observation.images.wrist": (3, 40, 56)}
CASES: dict[str, dict[str, Any]] = {
    "vision-pusht": _CASE | {"crop": (45, 52), "old": True},  # the options of lerobot/diffusion_pusht
    "vision-frozen": _CASE | {"cameras": _TWO, "batch_norm": True, "environment": 3, "numbers": "MEAN_STD"},
    "vision-separate": _CASE
    | {"cameras": _TWO, "separate": True, "resize": (64, 75), "ratio": 0.9, "visual": "MIN_MAX"}
    | {"stages": (3, 4, 6, 3), "keypoints": 3},
}


def features(name: str) -> int:
    """Numbers of one observation, as the denoiser sees it."""
    case = CASES[name]
    return case["state"] + case["environment"] + 2 * case["keypoints"] * len(case["cameras"])


def config(name: str) -> dict[str, Any]:
    """config.json."""
    case = CASES[name]
    inputs = {"observation.state": ("STATE", [case["state"]])}
    if case["environment"]:
        inputs["observation.environment_state"] = ("ENV", [case["environment"]])
    inputs |= {key: ("VISUAL", list(shape)) for key, shape in case["cameras"].items()}
    modes = {"VISUAL": case["visual"], "STATE": case["numbers"], "ENV": case["numbers"], "ACTION": "MIN_MAX"}
    changes = {
        "vision_backbone": "resnet34" if sum(case["stages"]) > 8 else "resnet18",
        "crop_shape": case["crop"] and list(case["crop"]),
        "crop_is_random": True,
        "use_group_norm": not case["batch_norm"],
        "spatial_softmax_num_keypoints": case["keypoints"],
        "n_groups": UNET["n_groups"],
        "horizon": HORIZON,
        "n_obs_steps": STEPS,
    }
    if not case["old"]:
        changes |= {
            "resize_shape": case["resize"] and list(case["resize"]),
            "crop_ratio": case["ratio"],
            "use_separate_rgb_encoder_per_camera": case["separate"],
        }
    return lerobot_config.config(inputs, modes, old=case["old"], **changes)


def statistics(name: str) -> dict[str, np.ndarray]:
    """{"observation.state.min": ..}, of every observation and action."""
    case = CASES[name]
    found: dict[str, np.ndarray] = {}
    sizes = {"observation.state": (case["state"],), "action": (ACTIONS,)}
    sizes |= {"observation.environment_state": (case["environment"],)} if case["environment"] else {}
    sizes |= {key: (shape[0], 1, 1) for key, shape in case["cameras"].items()}
    for key, shape in sizes.items():
        rng = np.random.default_rng(zlib.crc32(f"{name} {key}".encode()))
        low = rng.uniform(-2.0, 0.0, shape) if len(shape) == 1 else rng.uniform(0.0, 0.1, shape)
        span = rng.uniform(1.0, 2.0, shape) if len(shape) == 1 else rng.uniform(0.5, 0.9, shape)
        all_four = {"min": low, "max": low + span, "mean": low + span / 3, "std": span / 4}
        found |= {f"{key}.{which}": value.astype(np.float32) for which, value in all_four.items()}
    return found


def stored(name: str) -> dict[str, np.ndarray]:
    """The statistics as the policy's file has them: until 2025 as buffers of its modules."""
    if not CASES[name]["old"]:
        return statistics(name)
    found = {}
    for key, value in statistics(name).items():
        feature, which = key.rsplit(".", 1)
        part = "unnormalize_outputs" if feature == "action" else "normalize_inputs"
        found[f"{part}.buffer_{feature.replace('.', '_')}.{which}"] = value
    return found


def inputs(name: str) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """(observations `[B, STEPS, ..]` with images `[.., H, W, C]` in 0..1, noisy actions `[B, HORIZON, A]`, t `[B]`)."""
    case = CASES[name]
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    lead = (BATCH, STEPS)
    seen = {"observation.state": rng.standard_normal((*lead, case["state"]))}
    if case["environment"]:
        seen["observation.environment_state"] = rng.standard_normal((*lead, case["environment"]))
    for key, (channels, height, width) in case["cameras"].items():
        seen[key] = rng.random((*lead, height, width, channels))
    x, t = rng.standard_normal((BATCH, HORIZON, ACTIONS)), np.array([3.0, 17.0])
    return {key: value.astype(np.float32) for key, value in seen.items()}, x.astype(np.float32), t.astype(np.float32)
