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
from pcm_jax.policy import Policy, Vision
from pcm_jax.pretrained.diffusers.config import read_json
from pcm_jax.pretrained.diffusers.load import Denoiser
from pcm_jax.pretrained.diffusers.scheduler_config import complete
from pcm_jax.pretrained.diffusers.schedulers import Scheduler, build_scheduler
from pcm_jax.pretrained.diffusers.shards import Tensor, tensors
from pcm_jax.pretrained.diffusion_policy import load_unet1d, split
from pcm_jax.pretrained.lerobot_vision import load_vision


@reads("path")
def load_lerobot(path: str | Path, *, dtype: DTypeLike = jnp.float32) -> Policy:
    """A diffusion policy of LeRobot: network, normaliser, horizons, sampler, and the encoder of its images.

    Args:
        path: the folder with config.json and model.safetensors, such as lerobot/diffusion_pusht's.
        dtype: as for `load_unet1d`, and of the encoder.

    Returns:
        The policy, sampled sequentially until told otherwise; `policy.picard(tol=1e-2)` samples it in parallel. Its
        observations are observation.state and then observation.environment_state, in the robot's units. A policy that
        sees images takes a mapping of all its observations by name, images `[.., H, W, C]`; see `policy.Vision.lead`.

    Raises:
        ValueError: as for `load_unet1d`; another backbone than ResNet-18 or 34, another normalisation.

    Example:
        policy = pcm_jax.pretrained.load_lerobot("diffusion_pusht")
        scheduler = pcm_jax.pretrained.lerobot_scheduler("diffusion_pusht", "DDIMScheduler")
        fast = policy.with_solver(scheduler.solver(20)).picard(tol=1e-2)
        fast.act({"observation.image": images, "observation.state": states}, jax.random.key(0))
    """
    path = Path(path)
    file = path / "config.json"
    config = read_json(file, "policy configuration")
    denoiser = load_unet1d(path, dtype=dtype)
    given, wanted = _features(config, file)
    _, others = split(tensors(path))
    for extra in sorted(path.glob("policy_*normalizer_processor.safetensors")):
        others |= tensors(extra)
    numbers = [(key, shape[0], mode) for key, shape, mode in given if len(shape) == 1]
    cameras = [(key, (shape[0], shape[1], shape[2]), mode) for key, shape, mode in given if len(shape) == 3]
    vision = None
    if cameras:
        if not numbers:
            raise ValueError(f"{file}: a policy without observation.state is not supported")

        def statistic(key: str, which: str, size: int) -> np.ndarray:
            return _statistic(key, which, size, others, path)

        states = [(key, size) for key, size, _ in numbers]
        vision = load_vision(cameras, states, statistic, config, others, file, dtype)
    _check_width(denoiser, numbers, vision, config["n_obs_steps"], file)
    return Policy(
        name=path.name,
        model_fn=denoiser.model_fn,
        params=denoiser.params,
        solver=lerobot_scheduler(path).solver(config.get("num_inference_steps") or config["num_train_timesteps"]),
        observation=_normalizer(numbers, others, path),
        action=_normalizer([(key, shape[0], mode) for key, shape, mode in wanted], others, path),
        obs_horizon=config["n_obs_steps"],
        horizon=config["horizon"],
        action_horizon=config["n_action_steps"],
        vision=vision,
    )


def lerobot_scheduler(path: str | Path, scheduler: str | None = None) -> Scheduler:
    """The sampler of a LeRobot policy's folder, for `policy.with_solver(lerobot_scheduler(folder, ..).solver(10))`.

    Args:
        path: the folder with config.json.
        scheduler: a class of diffusers, such as "DDIMScheduler", in place of the one that the policy was saved with;
            the betas stay, the method changes.

    Raises:
        ValueError: as for `diffusers.load_scheduler`.
    """
    file = Path(path) / "config.json"
    config = read_json(file, "policy configuration")
    kept = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type")
    sampler = {key: config[key] for key in (*kept, "clip_sample", "clip_sample_range") if key in config}
    name, settled = complete(sampler, str(file), scheduler or f"{config.get('noise_scheduler_type', 'DDPM')}Scheduler")
    return build_scheduler(name, settled, str(file))


Feature = tuple[str, tuple[int, ...], str]
"""(name, shape, normalisation)."""

_MODES = ("MIN_MAX", "MEAN_STD", "IDENTITY")


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
    for part, dimensions in ((given, (1, 3)), (wanted, (1,))):
        for key, shape, mode in part:
            if len(shape) not in dimensions:
                raise ValueError(
                    f"{file}: {key!r} of shape {list(shape)} is not supported; observations are numbers [n] or images "
                    "[channels, height, width], actions numbers"
                )
            if mode.upper() not in _MODES:
                raise ValueError(f"{file}: normalisation {mode!r} of {key!r} is not supported; {', '.join(_MODES)} are")
    # The network sees observation.state before observation.environment_state, whatever the file's order.
    given.sort(key=lambda each: each[0] != "observation.state")
    found = ([(key, tuple(map(int, shape)), mode.upper()) for key, shape, mode in part] for part in (given, wanted))
    return tuple(found)  # type: ignore[return-value]


def _check_width(
    denoiser: Denoiser, numbers: list[tuple[str, int, str]], vision: Vision | None, steps: int, file: Path
) -> None:
    """What the configuration lists has to be what the network was conditioned on."""
    features = 0
    if vision is not None:
        module = vision.encode.module  # type: ignore[attr-defined]
        features = 2 * module.encoder.keypoints * module.cameras
    listed = steps * (sum(size for _, size, _ in numbers) + features)
    wanted = denoiser.params["down_0_0"]["film"]["kernel"].shape[0] - denoiser.model_fn.module.embed
    if listed != wanted:
        raise ValueError(
            f"{file}: its features have {listed} numbers in {steps} steps, the network takes {wanted}; take the "
            "config.json that belongs to these weights"
        )


def _normalizer(features: list[tuple[str, int, str]], stored: Mapping[str, Tensor], path: Path) -> Normalizer:
    """Of all features in a row."""
    low, high = [], []
    for key, size, mode in features:
        if mode == "IDENTITY":
            bounds = -np.ones(size, np.float32), np.ones(size, np.float32)
        elif mode == "MEAN_STD":
            mean, std = (_statistic(key, which, size, stored, path) for which in ("mean", "std"))
            bounds = mean - std, mean + std
        else:
            bounds = _statistic(key, "min", size, stored, path), _statistic(key, "max", size, stored, path)
        low.append(bounds[0])
        # LeRobot sends a number that never changes to -1, not to 0: so does a range beyond everything.
        constant = (bounds[1] == bounds[0]) & key.startswith("observation") & (mode == "MIN_MAX")
        high.append(np.where(constant, np.float32(1e30), bounds[1]))
    return Normalizer(np.concatenate(low), np.concatenate(high))


def _statistic(key: str, which: str, size: int, stored: Mapping[str, Tensor], path: Path) -> np.ndarray:
    buffer = f"buffer_{key.replace('.', '_')}.{which}"
    names = (f"normalize_inputs.{buffer}", f"unnormalize_outputs.{buffer}", f"{key}.{which}")
    name = next((each for each in names if each in stored), None)
    if name is None:
        raise ValueError(
            f"{path}: the {which} of {key!r} is in no file, neither as {names[0]!r} nor as {names[2]!r}; copy "
            "model.safetensors and the policy_*normalizer_processor.safetensors beside it"
        )
    value = stored[name].read().astype(np.float32)
    # Images have theirs as (channels, 1, 1).
    if value.shape not in ((size,), (size, 1, 1)) or not np.isfinite(value).all():
        raise ValueError(f"{stored[name].path}: {name!r} must be {size} finite numbers, got shape {value.shape}")
    return value.reshape(size)
