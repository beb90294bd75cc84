"""The `ConditionalUnet1D` that Diffusion Policy or LeRobot trained in PyTorch; its sizes are read off its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from pcm_jax.files import reads
from pcm_jax.networks import ConditionalUNet1D, linen
from pcm_jax.pretrained.diffusers.config import read_json
from pcm_jax.pretrained.diffusers.keys import Source, match
from pcm_jax.pretrained.diffusers.load import Denoiser
from pcm_jax.pretrained.diffusers.shards import Tensor, tensors
from pcm_jax.pretrained.diffusers.weights import read_params
from pcm_jax.trees import flatten
from pcm_jax.types import Params

PREFIXES = ("diffusion.unet.", "ema_model.", "model.", "unet.", "")
"""Of the network's tensors: LeRobot's, Diffusion Policy's, and none."""

_FIRST = "diffusion_step_encoder.1.weight"
_NAMES = (
    (r"^time_in/", "diffusion_step_encoder.1/"),
    (r"^time_out/", "diffusion_step_encoder.3/"),
    (r"^down_(\d+)_(\d)/", r"down_modules.\1.\2/"),
    (r"^downsample_(\d+)/", r"down_modules.\1.2{conv}/"),
    (r"^middle_(\d)/", r"mid_modules.\1/"),
    (r"^up_(\d+)_(\d)/", r"up_modules.<\1>.\2/"),
    (r"^upsample_(\d+)/", r"up_modules.<\1>.2{conv}/"),
    (r"^block_out/", "final_conv.0/"),
    (r"^out/", "final_conv.1/"),
    (r"/block_(\d)/", r".{block\1}/"),
    (r"/film/", ".cond_encoder.1/"),
    (r"/skip/", ".residual_conv/"),
    (r"/conv/", ".block.0/"),
    (r"/norm/", ".block.1/"),
    (r"/(kernel|scale)$", ".weight"),
    (r"/bias$", ".bias"),
)
_LAYOUTS = {
    "original": {"block0": "blocks.0", "block1": "blocks.1", "conv": ".conv"},
    "LeRobot": {"block0": "conv1", "block1": "conv2", "conv": ""},
}


@reads("path")
def load_unet1d(path: str | Path, *, groups: int | None = None, dtype: DTypeLike = jnp.float32) -> Denoiser:
    """A `ConditionalUnet1D`.

    Args:
        path: a safetensors file with its state dict, alone or under "model." or "ema_model.", or LeRobot's folder. A
            `.ckpt` of Diffusion Policy is a pickle; save `payload["state_dicts"]["ema_model"]` with safetensors first.
        groups: of the group norms, which no tensor shows; by default the folder's n_groups, or 8.
        dtype: of the parameters and of the layers; samples stay float32.

    Returns:
        Its model_fn takes chunks `[B, horizon, actions]`, and as cond the global conditioning `[B, ..]`, flattened.

    Raises:
        ValueError: no such file, a pickle, tensors that are missing, left over, of another shape or not finite.
    """
    path = Path(path)
    config = read_json(path / "config.json", "policy configuration") if path.is_dir() else {}
    stored, _ = split(tensors(path))
    if not stored:
        raise ValueError(
            f"{path} holds no ConditionalUnet1D: no tensor is called {_FIRST!r}, alone or after one of "
            f"{', '.join(map(repr, PREFIXES[:-1]))}"
        )
    module, layout = _network(stored, str(path), groups or config.get("n_groups", 8), dtype)
    like = _shapes(module, stored)
    params = read_params(like, match(like, stored, str(path), key_map(like, len(module.channels), layout)), dtype)
    shape = (config["horizon"], _actions(stored)) if "horizon" in config else None
    return Denoiser(linen(module), params, shape, config)


def key_map(like: Params, levels: int, layout: str) -> dict[str, Source]:
    """Each parameter's tensor. layout: "original", as Diffusion Policy's code calls them, or "LeRobot"."""
    sources = {}
    for name, leaf in flatten(like).items():
        key = name
        for pattern, replacement in _NAMES:
            key = re.sub(pattern, replacement, key)
        key = re.sub(r"<(\d+)>", lambda found: str(levels - 1 - int(found[1])), key)
        key = re.sub(r"{(\w+)}", lambda found: _LAYOUTS[layout][found[1]], key)
        up = name.startswith("upsample")
        axes = None
        if name.endswith("kernel"):
            # A transposed convolution has (in, out, taps) and its taps run backwards.
            axes = (1, 0) if len(leaf.shape) == 2 else (2, 0, 1) if up else (2, 1, 0)
        sources[name] = Source(key, axes, flipped=up and axes is not None)
    return sources


def split(stored: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(the network's tensors without their prefix, all others)."""
    for prefix in PREFIXES:
        if prefix + _FIRST in stored:
            mine = {key.removeprefix(prefix): value for key, value in stored.items() if key.startswith(prefix)}
            return mine, {key: value for key, value in stored.items() if not key.startswith(prefix)}
    return {}, stored


def _network(stored: Mapping[str, Tensor], where: str, groups: int, dtype: DTypeLike) -> tuple[ConditionalUNet1D, str]:
    """The module that tensors of these shapes belong to, and how its tensors are called."""
    local = next((key for key in stored if key.startswith("local_cond_encoder")), None)
    if local is not None:
        raise ValueError(f"{where}: {local!r} belongs to local conditioning, which is not supported; use global_cond")
    layout = "LeRobot" if "down_modules.0.0.conv1.block.0.weight" in stored else "original"
    first = _LAYOUTS[layout]["block0"]
    channels, level = [], 0
    while (key := f"down_modules.{level}.0.{first}.block.0.weight") in stored:
        channels.append(stored[key].shape[0])
        level += 1
    film = stored.get("down_modules.0.0.cond_encoder.1.weight")
    if not channels or film is None:
        raise ValueError(f"{where}: the first level of a ConditionalUnet1D is missing; save its whole state dict")
    kernel_size = stored[f"down_modules.0.0.{first}.block.0.weight"].shape[-1]
    if kernel_size % 2 == 0 or any(width % groups for width in channels):
        raise ValueError(
            f"{where}: kernels of {kernel_size} taps and {groups} groups of {channels} channels are not supported; "
            "taps must be odd and the groups divide the channels"
        )
    module = ConditionalUNet1D(
        channels=tuple(channels),
        embed=stored[_FIRST].shape[1],
        kernel_size=kernel_size,
        groups=groups,
        out_groups=8,  # Both codes leave the last block's at the default.
        film_scale=film.shape[0] == 2 * channels[0],
        dtype=dtype,
    )
    return module, layout


def _shapes(module: ConditionalUNet1D, stored: Mapping[str, Tensor]) -> Params:
    width = stored["down_modules.0.0.cond_encoder.1.weight"].shape[1] - module.embed
    x = jax.ShapeDtypeStruct((1, 2 ** len(module.channels), _actions(stored)), jnp.float32)
    cond = jax.ShapeDtypeStruct((1, width), jnp.float32) if width > 0 else None
    t = jax.ShapeDtypeStruct((1,), jnp.float32)
    return jax.eval_shape(module.init, jax.eval_shape(lambda: jax.random.key(0)), x, t, cond)["params"]


def _actions(stored: Mapping[str, Tensor]) -> int:
    return next(
        value.shape[1] for key, value in stored.items() if re.match(r"down_modules\.0\.0\..*block\.0\.weight", key)
    )
