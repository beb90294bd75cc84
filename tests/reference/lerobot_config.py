"""config.json of a diffusion policy, as LeRobot writes it: of the campaigns' files, and of the reference cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def config(
    inputs: Mapping[str, tuple[str, Sequence[int]]], modes: Mapping[str, str], *, old: bool = False, **changes: Any
) -> dict[str, Any]:
    """One that acts on two numbers. inputs: feature -> (kind, shape). modes: kind -> normalisation.

    old: with the names that LeRobot had before 2025. changes: other entries, or other values of these.
    """
    told: dict[str, Any] = {
        "n_obs_steps": 2,
        "horizon": 8,
        "n_action_steps": 4,
        "n_groups": 8,
        "noise_scheduler_type": "DDPM",
        "num_train_timesteps": 20,
        "beta_schedule": "squaredcos_cap_v2",
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "prediction_type": "epsilon",
        "clip_sample": True,
        "clip_sample_range": 1.0,
        "num_inference_steps": None,
    }
    if old:
        told |= {
            "input_shapes": {key: list(shape) for key, (_, shape) in inputs.items()},
            "output_shapes": {"action": [2]},
            "input_normalization_modes": {key: modes[kind].lower() for key, (kind, _) in inputs.items()},
            "output_normalization_modes": {"action": modes["ACTION"].lower()},
        }
    else:
        told |= {
            "type": "diffusion",
            "input_features": {key: {"type": kind, "shape": list(shape)} for key, (kind, shape) in inputs.items()},
            "output_features": {"action": {"type": "ACTION", "shape": [2]}},
            "normalization_mapping": dict(modes),
        }
    return told | changes
