"""Stable Diffusion 1.5's UNet, 860 M parameters, with random weights."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from pcm_jax.pretrained.diffusers import config as configs
from pcm_jax.pretrained.diffusers.weights import shapes
from pcm_jax.types import Params

STABLE_DIFFUSION: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "cross_attention_dim": 768,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-5,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}
TOKENS = 77
_DRAWN = 2**20
"""Random numbers that all weights are cut from: drawing each of 860 million would take longer than measuring them."""


def random_unet(config: dict[str, Any], dtype: DTypeLike, seed: int) -> tuple[Any, Params]:
    """(Linen module, parameters in `dtype`) of a UNet2DConditionModel.

    Variance 1 / fan-in for kernels, norms near 1 and small biases keep activations of order 1.
    """
    module = configs.build(config, "config.json", dtype)
    drawn = np.random.default_rng(seed).standard_normal(_DRAWN, np.float32)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        # Every leaf begins elsewhere, so that no two are alike.
        start = sum(map(ord, jax.tree_util.keystr(path))) * 9973 % _DRAWN
        values = np.resize(np.roll(drawn, -start), leaf.shape)
        last = jax.tree_util.keystr(path[-1:])
        if "kernel" in last:
            values *= 1 / math.sqrt(math.prod(leaf.shape[:-1]))
        else:
            values = 0.1 * values + ("scale" in last)
        return jnp.asarray(values.astype(jnp.dtype(dtype)))

    return module, jax.tree_util.tree_map_with_path(draw, shapes(module))
