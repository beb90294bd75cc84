"""Small random LoRA files in every style that `pretrained.diffusers.load_lora` reads: NumPy alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

try:  # beside this file for make_models.py, in its package for the tests
    import random_models
except ImportError:
    from tests.reference import random_models

FILE = "pytorch_lora_weights.safetensors"
SIZE = (8, 8)
_BLOCK = "attentions.0.transformer_blocks.0"
_UNDERSCORED = _BLOCK.replace(".", "_")

CASES: dict[str, dict[str, Any]] = {
    # diffusers and peft; alpha in the header, one of its own.
    "lora-peft": {
        "model": "stable-diffusion",
        "names": "unet.{}.lora_{}.weight",
        "sides": ("A", "B"),
        "header": {"unet.lora_alpha": 3, "unet.r": 2, "unet.alpha_pattern": {"mid_block.*to_k": 5.0}},
        "alphas": {f"mid_block.{_BLOCK}.attn1.to_k": 5.0},
        "default": 3.0,
        "layers": {
            f"down_blocks.0.{_BLOCK}.attn1.to_q": (2, 8, 8),
            f"down_blocks.0.{_BLOCK}.attn2.to_v": (3, 12, 8),
            f"mid_block.{_BLOCK}.attn1.to_k": (2, 16, 16),
            f"mid_block.{_BLOCK}.attn1.to_out.0": (1, 16, 16),
            "mid_block.attentions.0.proj_in": (2, 16, 16, 1, 1),
        },
    },
    # diffusers until 2023; no alpha.
    "lora-processor": {
        "model": "stable-diffusion-2",
        "names": "unet.{}_lora.{}.weight",
        "layers": {
            f"up_blocks.1.{_BLOCK}.attn1.processor.to_q": (2, 8, 8),
            f"up_blocks.1.{_BLOCK}.attn2.processor.to_out": (4, 8, 8),
        },
    },
    # kohya, convolutions too.
    "lora-kohya": {
        "model": "stable-diffusion",
        "names": "lora_unet_{}.lora_{}.weight",
        "default": 1.5,
        "layers": {
            f"down_blocks_0_{_UNDERSCORED}_attn1_to_out_0": (2, 8, 8),
            f"down_blocks_0_{_UNDERSCORED}_ff_net_0_proj": (3, 8, 64),
            "down_blocks_0_resnets_0_conv1": (2, 8, 8, 3, 3),
            "down_blocks_0_downsamplers_0_conv": (1, 8, 8, 3, 3),
            "down_blocks_1_resnets_0_time_emb_proj": (2, 32, 16),
            "up_blocks_1_attentions_0_proj_out": (2, 8, 8, 1, 1),
        },
    },
    # kohya on the UNet of Stability's own code.
    "lora-sgm": {
        "model": "sdxl",
        "names": "lora_unet_{}.lora_{}.weight",
        "default": 2.0,
        "layers": {
            "input_blocks_3_1_transformer_blocks_1_attn2_to_k": (2, 12, 16),
            "input_blocks_3_1_proj_in": (2, 16, 16),
            "input_blocks_3_0_in_layers_2": (2, 8, 16, 3, 3),
            "input_blocks_2_0_op": (2, 8, 8, 3, 3),
            "middle_block_1_transformer_blocks_0_ff_net_2": (3, 64, 16),
            "middle_block_2_out_layers_3": (1, 16, 16, 3, 3),
            "output_blocks_0_1_transformer_blocks_0_attn1_to_out_0": (2, 16, 16),
            "output_blocks_1_2_conv": (2, 16, 16, 3, 3),
            "output_blocks_2_0_skip_connection": (2, 24, 8, 1, 1),
            "output_blocks_3_0_emb_layers_1": (2, 32, 8),
        },
    },
    "lora-sd3": {
        "model": "sd3.5",
        "names": "transformer.{}.lora_{}.weight",
        "sides": ("A", "B"),
        "layers": {
            "transformer_blocks.0.attn.to_q": (2, 16, 16),
            "transformer_blocks.0.attn2.to_out.0": (2, 16, 16),
            "transformer_blocks.1.attn.add_k_proj": (3, 16, 16),
            "transformer_blocks.1.attn.to_add_out": (1, 16, 16),
            "transformer_blocks.2.norm1.linear": (2, 16, 96),
            "context_embedder": (2, 12, 16),
        },
    },
    "lora-dit": {
        "model": "dit",
        "names": "base_model.model.{}.lora_{}.default.weight",
        "sides": ("A", "B"),
        "layers": {
            "transformer_blocks.0.attn1.to_v": (2, 16, 16),
            "transformer_blocks.1.ff.net.0.proj": (2, 16, 64),
            "proj_out_2": (2, 16, 32),
        },
    },
}
"""layers: {name in the file: (rank, in, out, *kernel)}."""


def arrays(name: str) -> dict[str, np.ndarray]:
    """The file's tensors."""
    case, found = CASES[name], {}
    down, up = case.get("sides", ("down", "up"))
    for layer, (rank, before, after, *kernel) in case["layers"].items():
        ones = (1,) * len(kernel)
        for side, shape in ((down, (rank, before, *kernel)), (up, (after, rank, *ones))):
            key = case["names"].format(layer, side)
            found[key] = random_models.weight(key, shape)
        if "default" in case and "header" not in case:
            found[case["names"].split("{}")[0] + f"{layer}.alpha"] = np.full((), case["default"], np.float32)
    return found


def header(name: str) -> dict[str, str]:
    """The file's metadata."""
    config = CASES[name].get("header")
    return {"format": "pt"} | ({"lora_adapter_metadata": json.dumps(config)} if config else {})


def scale(name: str, layer: str, rank: int) -> float:
    """alpha / r of a layer."""
    case = CASES[name]
    return case.get("alphas", {}).get(layer, case.get("default", rank)) / rank
