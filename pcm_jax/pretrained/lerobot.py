"""Diffusion policies of LeRobot: network, normaliser, horizons and sampler of a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from pcm_jax.data.robots import Normalizer
from pcm_jax.files import reads
from pcm_jax.policy import Policy
from pcm_jax.pretrained.diffusers.config import read_json
from pcm_jax.pretrained.diffusers.scheduler_config import complete
from pcm_jax.pretrained.diffusers.schedulers import build_scheduler
from pcm_jax.pretrained.diffusers.shards import Tensor, tensors
from pcm_jax.pretrained.diffusion_policy import load_unet1d, split


@reads("path")
def load_lerobot(path: str | Path, *, dtype: DTypeLike = jnp.float32) -> Policy:
    """A diffusion policy of LeRobot that sees states: network, normaliser, horizons and sampler.

    Args:
        path: the folder with config.json and model.safetensors. Its normaliser is min-max or none.
        dtype: as for `load_unet1d`.

    Returns:
        The policy, sampled sequentially until told otherwise; `policy.picard(tol=1e-2)` samples it in parallel. Its
        observations are observation.state and then observation.environment_state, in the robot's units.

    Raises:
        ValueError: as for `load_unet1d`, a policy that sees images, or another normalisation.
    """
    path = Path(path)
    file = path / "config.json"
    config = read_json(file, "policy configuration")
    denoiser = load_unet1d(path, dtype=dtype)
    given, wanted = _features(config, file)
    _, others = split(tensors(path))
    for extra in sorted(path.glob("policy_*normalizer_processor.safetensors")):
        others |= tensors(extra)
    steps = config.get("num_inference_steps") or config["num_train_timesteps"]
    kept = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type")
    sampler = {key: config[key] for key in (*kept, "clip_sample", "clip_sample_range") if key in config}
    name, settled = complete(sampler, str(file), f"{config.get('noise_scheduler_type', 'DDPM')}Scheduler")
    return Policy(
        name=path.name,
        model_fn=denoiser.model_fn,
        params=denoiser.params,
        solver=build_scheduler(name, settled, str(file)).solver(steps),
        observation=_normalizer(given, others, path),
        action=_normalizer(wanted, others, path),
        obs_horizon=config["n_obs_steps"],
        horizon=config["horizon"],
        action_horizon=config["n_action_steps"],
    )


Feature = tuple[str, int, str]
"""(name, size, normalisation: "MIN_MAX" or "IDENTITY")."""


def _features(config: Mapping[str, Any], file: Path) -> tuple[list[Feature], list[Feature]]:
    """What the policy sees and does; in the form of LeRobot before 2025 too."""
    if config.get("type", "diffusion") != "diffusion":
        raise ValueError(f"{file}: a LeRobot policy of type {config['type']!r} is not supported; 'diffusion' is")
    if "input_shapes" in config:
        given = [
            (key, shape, config.get("input_normalization_modes", {}).get(key, "identity"))
            for key, shape in config["input_shapes"].items()
        ]
        modes = config.get("output_normalization_modes", {})
        wanted = [(key, shape, modes.get(key, "identity")) for key, shape in config["output_shapes"].items()]
    else:
        modes = config.get("normalization_mapping", {})
        given, wanted = (
            [(key, each["shape"], modes.get(each["type"], "IDENTITY")) for key, each in config[part].items()]
            for part in ("input_features", "output_features")
        )
    for key, shape, mode in given + wanted:
        if len(shape) != 1:
            raise ValueError(
                f"{file}: {key!r} of shape {list(shape)} is an image; load the network with load_unet1d and give it "
                "the encoded images in cond"
            )
        if mode.upper() not in ("MIN_MAX", "IDENTITY"):
            raise ValueError(f"{file}: normalisation {mode!r} of {key!r} is not supported; MIN_MAX is")
    # The network sees observation.state before observation.environment_state, whatever the file's order.
    given.sort(key=lambda each: each[0] != "observation.state")
    return tuple([(key, int(shape[0]), mode.upper()) for key, shape, mode in part] for part in (given, wanted))  # type: ignore[return-value]


def _normalizer(features: list[Feature], stored: Mapping[str, Tensor], path: Path) -> Normalizer:
    """Of all features in a row."""
    low, high = [], []
    for key, size, mode in features:
        if mode == "IDENTITY":
            bounds = -np.ones(size, np.float32), np.ones(size, np.float32)
        else:
            bounds = _bound(key, "min", size, stored, path), _bound(key, "max", size, stored, path)
        low.append(bounds[0])
        # LeRobot sends a number that never changes to -1, not to 0: so does a range beyond everything.
        constant = (bounds[1] == bounds[0]) & key.startswith("observation")
        high.append(np.where(constant, np.float32(1e30), bounds[1]))
    return Normalizer(np.concatenate(low), np.concatenate(high))


def _bound(key: str, which: str, size: int, stored: Mapping[str, Tensor], path: Path) -> np.ndarray:
    buffer = f"buffer_{key.replace('.', '_')}.{which}"
    names = (f"normalize_inputs.{buffer}", f"unnormalize_outputs.{buffer}", f"{key}.{which}")
    name = next((each for each in names if each in stored), None)
    if name is None:
        raise ValueError(
            f"{path}: the {which} of {key!r} is in no file, neither as {names[0]!r} nor as {names[2]!r}; copy "
            "model.safetensors and the policy_*normalizer_processor.safetensors beside it"
        )
    value = stored[name].read().astype(np.float32)
    if value.shape != (size,) or not np.isfinite(value).all():
        raise ValueError(f"{stored[name].path}: {name!r} must be {size} finite numbers, got shape {value.shape}")
    return value
