"""Good files of other libraries' models: folders of diffusers, LoRAs, old `.pth` files, and parts of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.campaigns import latent, pth
from experiments.campaigns.toys import drawn
from experiments.pcm import fd_sums
from pcm_jax import networks
from pcm_jax.metrics import Moments
from pcm_jax.metrics.torch_legacy import load_state_dict
from pcm_jax.networks.diffusers import UNet2DModel, VQModel
from pcm_jax.pretrained import diffusers, diffusion_policy, load_unet1d
from pcm_jax.pretrained.diffusers.weights import shapes
from pcm_jax.training import gaussian_prior
from pcm_jax.trees import flatten

UNET = UNet2DModel(
    block_out_channels=(4, 8),
    down_block_types=("DownBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    layers_per_block=1,
    norm_num_groups=4,
    attention_head_dim=4,
)
SCHEDULER = {"_class_name": "DDIMScheduler", "num_train_timesteps": 100, "beta_start": 1e-4, "beta_end": 0.02}
PARTS = {"seed": 0}
"""What the part of a prior's samples is of."""


def unet_params() -> Any:
    return drawn(shapes(UNET))


def write_pipeline(folder: Path) -> None:
    diffusers.save_model(folder / "unet", UNET, unet_params(), sample_size=8)
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    index = {"_class_name": "DDIMPipeline", "unet": ["diffusers", "UNet2DModel"]}
    (folder / "model_index.json").write_text(json.dumps(index))


def write_shards(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    whole = diffusers.save_model(folder, UNET, unet_params(), sample_size=8)
    weights = load_file(whole)
    whole.unlink()
    places: dict[str, str] = {}
    for number, keys in enumerate((sorted(weights)[::2], sorted(weights)[1::2]), start=1):
        name = f"diffusion_pytorch_model-{number:05d}-of-00002.safetensors"
        save_file({key: weights[key] for key in keys}, folder / name)
        places |= dict.fromkeys(keys, name)
    index = {"metadata": {}, "weight_map": places}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))


def write_scheduler(folder: Path) -> None:
    (folder / "scheduler_config.json").write_text(json.dumps(SCHEDULER))


def write_autoencoder(folder: Path) -> None:
    coder = VQModel(**latent.LEVELS, mid_block_add_attention=False, num_vq_embeddings=16)
    diffusers.save_model(folder, coder, drawn(shapes(coder)))


def denoiser() -> diffusers.Denoiser:
    """The model that the LoRA belongs to."""
    return diffusers.Denoiser(networks.linen(UNET), unet_params(), (8, 8, 3), {})


def write_lora(folder: Path) -> None:
    """As peft saves one: factors of two layers, alpha in a file beside them."""
    from safetensors.numpy import save_file

    draws, tensors = np.random.default_rng(0), {}
    for layer, size in (("down_blocks.1.attentions.0.to_q", 8), ("mid_block.attentions.0.to_k", 8)):
        for side, shape in (("A", (2, size)), ("B", (size, 2))):
            tensors[f"unet.{layer}.lora_{side}.weight"] = draws.normal(size=shape).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"lora_alpha": 4, "r": 2, "alpha_pattern": {}}))


def write_chunks(folder: Path) -> None:
    """The network of Diffusion Policy, under its own names."""
    from safetensors.numpy import save_file

    network = networks.ConditionalUNet1D((8, 16), 8, 3, 4)
    like = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 2)), jnp.zeros(1), jnp.zeros((1, 6)))
    flat, tensors = flatten(drawn(like["params"])), {}
    for key, source in diffusion_policy.key_map(like["params"], 2, "original").items():
        tensors[f"model.{source.key}"] = np.ascontiguousarray(source.tensor(np.asarray(flat[key])))
    save_file(tensors, folder / "ema.safetensors")


def write_pth(folder: Path) -> None:
    (folder / "weights.pth").write_bytes(pth.file_of())


def write_part(folder: Path) -> None:
    gaussian_prior._write(folder / "samples-00000.npz", {"sample": np.ones((4, 3), np.float32)}, PARTS)


def write_sums(folder: Path) -> None:
    sums = fd_sums.Sums(folder, "Picard", PARTS)
    sums.add(0, [np.ones((4, 2, 2, 1), np.uint8)], lambda images: np.eye(4, 3))


def read_sums(folder: Path) -> list[Moments]:
    return fd_sums.Sums(folder, "Picard", PARTS).moments


READERS: dict[str, tuple[Callable[[Path], None], Callable[[Path], Any]]] = {
    "pipeline": (write_pipeline, lambda at: diffusers.load_pipeline(at)),
    "shards": (write_shards, lambda at: diffusers.load_denoiser(at)),
    "scheduler": (write_scheduler, lambda at: diffusers.load_scheduler(at)),
    "autoencoder": (write_autoencoder, lambda at: diffusers.load_autoencoder(at)),
    "lora": (write_lora, lambda at: diffusers.load_lora(at, denoiser())),
    "diffusion policy": (write_chunks, lambda at: load_unet1d(at / "ema.safetensors", groups=4)),
    "pth": (write_pth, lambda at: load_state_dict(at / "weights.pth")),
    "prior parts": (write_part, lambda at: gaussian_prior._read(at / "samples-00000.npz", PARTS)),
    "sums": (write_sums, read_sums),
}
"""name -> (write a good one into a folder, read it)."""
