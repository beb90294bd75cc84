"""Small random-weight models of every class and option that `pretrained.diffusers` imports: NumPy alone.

Weights are drawn from their key and shape, inputs from the case's name, so PyTorch (make_models.py) and the tests build
the same model, and only outputs are committed.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

BATCH = 2
UNET_SIZES = ((8, 8), (4, 6), (10, 6))
ODD_SIZES = ((8, 8), (7, 9), (5, 6))
"""UNet2DConditionModel takes any size."""
IMAGE_SIZES = ((8, 8), (6, 4), (12, 8))
TOKENS, TEXT = 5, 12

_UNET = {
    "_class_name": "UNet2DModel",
    "sample_size": 8,
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
}
_CONDITION = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 8,
    "block_out_channels": [8, 16],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 2,
    "cross_attention_dim": TEXT,
}
_CODER = {
    "sample_size": 8,
    "block_out_channels": [8, 16],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
_KL = _CODER | {"_class_name": "AutoencoderKL"}
_VQ = _CODER | {"_class_name": "VQModel", "num_vq_embeddings": 32}

_DIT = {
    "_class_name": "DiTTransformer2DModel",
    "sample_size": 8,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "in_channels": 4,
    "out_channels": 8,
    "num_layers": 2,
    "patch_size": 2,
    "num_embeds_ada_norm": 10,
}
_SD3 = {
    "_class_name": "SD3Transformer2DModel",
    "sample_size": 8,
    "patch_size": 2,
    "in_channels": 4,
    "num_layers": 2,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "joint_attention_dim": TEXT,
    "caption_projection_dim": 16,
    "pooled_projection_dim": 6,
    "out_channels": 4,
    "pos_embed_max_size": 6,
}

CASES: dict[str, dict[str, Any]] = {
    "unet": _UNET,
    "unet-celeba": _UNET  # the options of the CelebA-HQ latent diffusion model, three levels
    | {
        "block_out_channels": [8, 16, 24],
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "UNetResAttnDownBlock2D"],
        "up_block_types": ["UNetResAttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
        "layers_per_block": 2,
        "norm_num_groups": 8,
        "attention_head_dim": 8,
        "norm_eps": 1e-6,
        "mid_block_scale_factor": 1.5,
    },
    "unet-ddpm": _UNET  # google/ddpm-celebahq-256
    | {"freq_shift": 1, "flip_sin_to_cos": False, "downsample_padding": 0, "attention_head_dim": None},
    "unet-adm": _UNET
    | {
        "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "ResnetUpsampleBlock2D"],
        "resnet_time_scale_shift": "scale_shift",
        "num_class_embeds": 10,
        "attn_norm_num_groups": 2,
    },
    "unet-resample": _UNET
    | {
        "down_block_types": ["AttnDownBlock2D", "ResnetDownsampleBlock2D"],
        "up_block_types": ["ResnetUpsampleBlock2D", "AttnUpBlock2D"],
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "resnet_time_scale_shift": "scale_shift",
        "act_fn": "gelu",
    },
    "unet-fourier": _UNET
    | {"time_embedding_type": "fourier", "class_embed_type": "timestep", "add_attention": False, "act_fn": "relu"},
    "unet-learned": _UNET
    | {
        "time_embedding_type": "learned",
        "num_train_timesteps": 1000,
        "class_embed_type": "identity",
        "time_embedding_dim": 20,
        "mid_block_type": None,
        "center_input_sample": True,
        "in_channels": 2,
        "act_fn": "mish",
    },
    "stable-diffusion": _CONDITION,
    "stable-diffusion-2": _CONDITION
    | {"use_linear_projection": True, "attention_head_dim": [2, 4], "upcast_attention": True},
    "condition-levels": _CONDITION
    | {
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "layers_per_block": [1, 2],
        "transformer_layers_per_block": [1, 2],
        "only_cross_attention": [True, False],
        "cross_attention_dim": [TEXT, TEXT],
        "mid_block_scale_factor": 1.5,
    },
    "condition-resample": _CONDITION
    | {
        "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "ResnetUpsampleBlock2D"],
        "attention_head_dim": 4,
        "mid_block_type": "UNetMidBlock2D",
        "resnet_skip_time_act": True,
        "resnet_out_scale_factor": 1.3,
        "resnet_time_scale_shift": "scale_shift",
        "only_cross_attention": True,
    },
    "condition-projected": _CONDITION
    | {
        "encoder_hid_dim": 6,
        "encoder_hid_dim_type": "text_proj",
        "class_embed_type": "projection",
        "projection_class_embeddings_input_dim": 7,
        "class_embeddings_concat": True,
        "time_embedding_act_fn": "gelu",
        "timestep_post_act": "silu",
    }
    | {"conv_in_kernel": 1, "conv_out_kernel": 5, "act_fn": "gelu", "mid_block_type": None},
    "condition-fourier": _CONDITION
    | {"time_embedding_type": "fourier", "class_embed_type": "simple_projection", "center_input_sample": True}
    | {"projection_class_embeddings_input_dim": 7},
    "condition-labels": _CONDITION | {"num_class_embeds": 10, "freq_shift": 1, "flip_sin_to_cos": False},
    "condition-times": _CONDITION | {"class_embed_type": "timestep", "time_embedding_dim": 24, "act_fn": "mish"},
    "condition-identity": _CONDITION | {"class_embed_type": "identity"},
    "sdxl": _CONDITION  # the options of SDXL
    | {
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 30,
        "transformer_layers_per_block": [1, 2],
        "attention_head_dim": [1, 2],
        "use_linear_projection": True,
    },
    "condition-asymmetric": _CONDITION  # SSD-1B's way of being smaller than SDXL
    | {
        "block_out_channels": [8, 8],
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        "transformer_layers_per_block": [[2], 1],
        "reverse_transformer_layers_per_block": [1, [1, 2]],
        "mid_block_type": "UNetMidBlock2D",
    },
    "dit": _DIT,
    "dit-plain": _DIT
    | {"_class_name": "Transformer2DModel", "out_channels": 4, "patch_size": 4}
    | {"norm_type": "ada_norm_zero", "activation_fn": "gelu-approximate", "norm_elementwise_affine": False}
    | {"attention_bias": False},
    "sd3": _SD3,
    "sd3.5": _SD3 | {"qk_norm": "rms_norm", "dual_attention_layers": [0], "num_layers": 3, "sample_size": 12},
    "kl": _KL,
    "kl-sd3": _KL  # of Stable Diffusion 3: sixteen channels without the layers around them
    | {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
    | {"scaling_factor": 1.5305, "shift_factor": 0.0609},
    "kl-attention": _KL
    | {
        "down_block_types": ["AttnDownEncoderBlock2D", "DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D", "AttnUpDecoderBlock2D"],
    }
    | {"use_quant_conv": False, "use_post_quant_conv": False, "mid_block_add_attention": False}
    | {"scaling_factor": 0.5, "shift_factor": 0.1, "layers_per_block": 2, "act_fn": "gelu"},
    "vq": _VQ,
    "vq-wide": _VQ | {"vq_embed_dim": 6, "mid_block_add_attention": False, "latent_channels": 4, "in_channels": 1},
}


def is_coder(config: dict[str, Any]) -> bool:
    return config["_class_name"] in ("AutoencoderKL", "VQModel")


def is_dit(config: dict[str, Any]) -> bool:
    return "num_embeds_ada_norm" in config


def sizes(config: dict[str, Any]) -> tuple[tuple[int, int], ...]:
    """Three heights and widths."""
    if is_coder(config):
        return IMAGE_SIZES
    if is_dit(config):
        return ((8, 8), (4, 4), (12, 12))
    if "pos_embed_max_size" in config:
        return ((8, 8), (4, 6), (12, 10))
    even = config["_class_name"] == "UNet2DModel" or "ResnetDownsampleBlock2D" in config["down_block_types"]
    chosen = UNET_SIZES if even else ODD_SIZES
    if even and len(config["block_out_channels"]) == 3:
        return tuple((4 * ((height + 3) // 4), 4 * ((width + 3) // 4)) for height, width in chosen)
    return chosen


def weight(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """A weight that keeps activations of order 1: variance 1 / fan-in, norms near 1, small biases."""
    draw = np.random.default_rng(zlib.crc32(f"{key} {shape}".encode())).standard_normal(shape)
    if len(shape) > 1 and "embedding.weight" not in key:
        draw /= np.sqrt(np.prod(shape[1:]))
    elif len(shape) == 1:
        draw = 0.1 * draw if key.endswith(("bias", "running_mean")) else 1.0 + 0.1 * draw
    return draw.astype(np.float32)


def inputs(name: str, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """x (NHWC), and for a UNet t, text and label, for an autoencoder latents z; float32 but for labels."""
    config = CASES[name]
    rng = np.random.default_rng(zlib.crc32(f"{name} {size}".encode()))
    channels = config.get("in_channels", 4 if config["_class_name"] == "UNet2DConditionModel" else 3)
    found = {"x": rng.standard_normal((BATCH, *size, channels))}
    if is_coder(config):
        latent = config.get("vq_embed_dim", config.get("latent_channels", 4 if "Kl" in name or "kl" in name else 3))
        found["z"] = rng.standard_normal((BATCH, size[0] // 2, size[1] // 2, latent))
        return {key: value.astype(np.float32) for key, value in found.items()}
    found["t"] = np.array([3.0, 611.0])
    if is_dit(config):
        return {key: value.astype(np.float32) for key, value in found.items()} | {"label": np.array([7, 10])}
    if "joint_attention_dim" in config or "addition_embed_type" in config:
        pooled = config.get("pooled_projection_dim", 6)
        found |= {"text": rng.standard_normal((BATCH, TOKENS, TEXT)), "pooled": rng.standard_normal((BATCH, pooled))}
        if "addition_embed_type" in config:
            found["time_ids"] = np.array([[64.0, 48.0, 0.0, 0.0, 64.0, 64.0], [32.0, 32.0, 7.0, 3.0, 24.0, 16.0]])
        return {key: value.astype(np.float32) for key, value in found.items()}
    if "cross_attention_dim" in config:
        found["text"] = rng.standard_normal((BATCH, TOKENS, config.get("encoder_hid_dim", TEXT)))
    kind = config.get("class_embed_type")
    if "num_class_embeds" in config:
        return {key: value.astype(np.float32) for key, value in found.items()} | {"label": np.array([7, 0])}
    if kind == "timestep":
        found["label"] = np.array([40.0, 2.0])
    elif kind is not None:
        width = config.get("time_embedding_dim", 4 * config["block_out_channels"][0])
        found["label"] = rng.standard_normal((BATCH, config.get("projection_class_embeddings_input_dim", width)))
    return {key: value.astype(np.float32) for key, value in found.items()}
