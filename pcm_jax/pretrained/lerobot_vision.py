"""The image encoder of a LeRobot diffusion policy; its sizes are read off its tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from pcm_jax.networks.vision import CameraEncoder, ImageEncoder, LinenEncoder
from pcm_jax.policy import Vision
from pcm_jax.pretrained.diffusers.keys import key_map, match
from pcm_jax.pretrained.diffusers.shards import Tensor
from pcm_jax.pretrained.diffusers.weights import read_params

PREFIX = "diffusion.rgb_encoder."
Camera = tuple[str, tuple[int, int, int], str]
"""(name, (channels, height, width), normalisation)."""


def load_vision(
    cameras: Sequence[Camera],
    states: Sequence[tuple[str, int]],
    statistic: Callable[[str, str, int], np.ndarray],
    config: Mapping[str, Any],
    stored: Mapping[str, Tensor],
    file: Path,
    dtype: DTypeLike,
) -> Vision:
    """The encoder of a policy's folder.

    Args:
        cameras: what it sees, in its order.
        states: the numbers beside them; features come after the first.
        statistic: (name, "mean", "std", "min" or "max", how many) -> numbers of the normaliser.
        config, file: the folder's configuration, and its path for errors.
        stored: the folder's tensors that are not the denoiser's.
        dtype: of parameters and layers.

    Raises:
        ValueError: options, tensors or sizes that are not supported or do not belong together.
    """
    crop, resize = _sizes(config, cameras, file)
    mine = {key.removeprefix("diffusion."): value for key, value in stored.items() if key.startswith(PREFIX)}
    module = _module(mine, config, len(cameras), crop, resize, file, dtype)
    channels, height, width = cameras[0][1]
    images = tuple(jax.ShapeDtypeStruct((1, height, width, channels), jnp.float32) for _ in cameras)
    like = jax.eval_shape(module.init, jax.eval_shape(lambda: jax.random.key(0)), images)["params"]
    params = read_params(like, match(like, mine, str(file.parent), key_map(like)), dtype)
    scales = [_scale(name, channels, mode, statistic) for name, _, mode in cameras]
    mean, std = (np.stack([scale[index] for scale in scales]) for index in range(2))
    seen = tuple((name, (shape[1], shape[2], shape[0])) for name, shape, _ in cameras)
    return Vision(params, mean, std, LinenEncoder(module), tuple(states), seen, states[0][1])


def _scale(
    name: str, channels: int, mode: str, statistic: Callable[[str, str, int], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """(mean, std): min-max normalisation has its middle and half its range, and none is (0, 1)."""
    if mode == "IDENTITY":
        return np.zeros(channels, np.float32), np.ones(channels, np.float32)
    if mode == "MEAN_STD":
        # As LeRobot keeps a channel that never changes from dividing by 0.
        return statistic(name, "mean", channels), statistic(name, "std", channels) + np.float32(1e-8)
    low, high = (statistic(name, which, channels) for which in ("min", "max"))
    return (low + high) / 2, (high - low) / 2 + np.float32(5e-9)


def _sizes(
    config: Mapping[str, Any], cameras: Sequence[Camera], file: Path
) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """(crop, resize), as the configuration says."""
    for name, shape, _ in cameras:
        if shape != cameras[0][1]:
            raise ValueError(
                f"{file}: {name!r} has shape {list(shape)} and {cameras[0][0]!r} {list(cameras[0][1])}; the cameras of "
                "a policy have one shape"
            )
    sizes: list[tuple[int, int] | None] = []
    for key in ("crop_shape", "resize_shape"):
        value = config.get(key)
        pair = isinstance(value, list) and len(value) == 2 and all(isinstance(each, int) and each > 0 for each in value)
        if value is not None and not pair:
            raise ValueError(f"{file}: {key} = {value!r} must be a height and a width")
        sizes.append(None if value is None else (value[0], value[1]))
    crop, resize = sizes
    if resize is not None:
        # LeRobot derives the crop from the resized image then.
        ratio = config.get("crop_ratio", 1.0)
        crop = (int(resize[0] * ratio), int(resize[1] * ratio)) if ratio < 1 else None
    full = resize or cameras[0][1][1:]
    if crop is not None and (crop[0] > full[0] or crop[1] > full[1]):
        raise ValueError(f"{file}: crop_shape = {list(crop)} is larger than the images, {list(full)}")
    return crop, resize


def _module(
    stored: Mapping[str, Tensor],
    config: Mapping[str, Any],
    cameras: int,
    crop: tuple[int, int] | None,
    resize: tuple[int, int] | None,
    file: Path,
    dtype: DTypeLike,
) -> CameraEncoder:
    separate = bool(config.get("use_separate_rgb_encoder_per_camera"))
    stem = "rgb_encoder.0." if separate else "rgb_encoder."
    first, keypoints = stored.get(f"{stem}backbone.0.weight"), stored.get(f"{stem}pool.nets.weight")
    if first is None or keypoints is None or len(first.shape) != 4 or len(keypoints.shape) != 4:
        found = sorted(stored)[0] if stored else "none"
        raise ValueError(
            f"{file.parent}: the encoder's tensors {PREFIX.removesuffix('rgb_encoder.')}{stem}backbone.0.weight and "
            f"{stem}pool.nets.weight are missing (it has {found}); take the config.json that belongs to these weights"
        )
    blocks = {tuple(map(int, found.groups())) for found in map(_block(stem).match, stored) if found}
    stages = tuple(sum(level == number for number, _ in blocks) for level in range(4, 8))
    if any(key.startswith(f"{stem}backbone.4.0.conv3") for key in stored) or 0 in stages:
        raise ValueError(
            f"{file}: vision_backbone = {config.get('vision_backbone')!r} is not supported; resnet18 and resnet34 are"
        )
    if first.shape[0] % 16:
        raise ValueError(f"{first.path}: a first level of {first.shape[0]} channels is not supported, groups have 16")
    batch = any(key.endswith(".running_mean") for key in stored)
    encoder = ImageEncoder(
        stages=stages,
        width=first.shape[0],
        keypoints=keypoints.shape[0],
        norm="batch" if batch else "group",
        crop=crop,
        resize=resize,
        dtype=dtype,
        parent=None,
    )
    return CameraEncoder(cameras, separate, encoder)


def _block(stem: str) -> re.Pattern[str]:
    return re.compile(re.escape(stem) + r"backbone\.(\d)\.(\d+)\.conv1\.weight$")
