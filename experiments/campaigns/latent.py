"""A latent diffusion pipeline of random weights as diffusers would save it, and a folder of pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image

from pcm_jax.networks.diffusers import UNet2DModel, VQModel
from pcm_jax.pretrained.diffusers import save_model

SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 0,
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
}
LEVELS: dict[str, Any] = {"block_out_channels": (8,), "layers_per_block": 1, "norm_num_groups": 4}
"""One level, no attention: what compiles fast."""


def pipeline(folder: Path, classes: int | None = None) -> Path:
    """model_index.json, unet/, vqvae/, scheduler/: latents of 4 x 4 x 3, and pictures as large."""
    blocks: dict[str, Any] = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    unet = UNet2DModel(**LEVELS, **blocks, mid_block_type=None, num_class_embeds=classes)
    label = None if classes is None else jnp.zeros(1, jnp.int32)
    params = unet.init(jax.random.key(0), jnp.zeros((1, 4, 4, 3)), jnp.zeros(1), label)["params"]
    save_model(folder / "unet", unet, params, sample_size=4)
    coder = VQModel(**LEVELS, mid_block_add_attention=False, num_vq_embeddings=16)
    save_model(folder / "vqvae", coder, coder.init(jax.random.key(1), jnp.zeros((1, 4, 4, 3)))["params"])
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    index: dict[str, Any] = {"_class_name": "LDMPipeline"} | {
        name: ["diffusers", ""] for name in ("unet", "vqvae", "scheduler")
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def pictures(folder: Path, count: int = 6, size: int = 16) -> Path:
    """Random PNG files."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        image = random.integers(0, 256, (size, size, 3), dtype=np.uint8)
        PIL.Image.fromarray(image).save(folder / f"{number}.png")
    return folder


def tiny() -> dict[str, Any]:
    """Settings of a table that takes seconds."""
    sizes = {"steps": 4, "rounds": 2, "samples": 4, "batch": 2}
    return sizes | {"trajectories": 4, "epochs": 1, "train_batch": 2, "heldout": 2, "rank": 2}


def few(batch: Any) -> np.ndarray:
    """Four numbers of an image, in place of a network's features."""
    x = np.asarray(batch).reshape(len(batch), -1).astype(np.float32) / 255
    return np.stack([x.mean(1), x.std(1), np.abs(np.diff(x, axis=1)).mean(1), x[:, 0]], axis=1)
