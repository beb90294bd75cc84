r"""A small AutoencoderKL: images to latents of a quarter of their size, and back.

The loss is  mean |x - D(z)| + kl * mean KL(q(z|x) || N(0, 1)),  z ~ q(z|x)  (arXiv 2112.10752, without the adversary).
Random crops of the pictures are trained on: the network is convolutional, and a step on few pixels is a cheap one.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from experiments.common.figures import STORAGE, command_line, write_result
from pcm_jax.data import ImageSource, batch_iterator, load_source
from pcm_jax.networks.diffusers import AutoencoderKL
from pcm_jax.pretrained import FOLDERS
from pcm_jax.pretrained.diffusers import load_autoencoder, save_model
from pcm_jax.training import OptimizerConfig, TrainConfig, read_metrics, train
from pcm_jax.types import Array, Params


@dataclasses.dataclass(frozen=True)
class TrainAutoencoder:
    """Train the autoencoder and write its folder.

    data: a dataset of `pcm_jax.data`. channels: of each level, every level but the last halves the size. crop: pixels
    of the squares that are trained on. kl: weight of the prior. out: checkpoints. folder: of the pipeline.
    """

    data: str = "emoji32"
    channels: tuple[int, ...] = (16, 32, 64)
    latents: int = 4
    crop: int = 16
    kl: float = 1e-3
    steps: int = 2_000
    batch_size: int = 64
    learning_rate: float = 2e-3
    out: Path = Path("experiments/out/latent/autoencoder")
    folder: Path = FOLDERS / "emoji32-latent"
    resume: bool = True
    seed: int = 0


def build(channels: tuple[int, ...], latents: int) -> AutoencoderKL:
    """Without attention: each latent knows its surroundings only, so that crops train what whole pictures need."""
    levels = len(channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=channels,
        latent_channels=latents,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )


def loss(
    module: AutoencoderKL, config: TrainAutoencoder, params: Params, batch: Any, key: Array
) -> tuple[Array, dict[str, Array]]:
    """Reconstruction of crops and the prior."""
    crop_key, noise_key = jax.random.split(key)
    x = _crops(jnp.asarray(batch["x"]), config.crop, crop_key)
    apply: Any = module.apply
    mean, log_variance = apply({"params": params}, x, method="moments")
    z = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(noise_key, mean.shape)
    error = jnp.mean(jnp.abs(apply({"params": params}, z, method="decode") - x))
    prior = 0.5 * jnp.mean(mean**2 + jnp.exp(log_variance) - 1.0 - log_variance)
    return error + config.kl * prior, {"error": error, "prior": prior}


def _crops(x: Array, size: int, key: Array) -> Array:
    """A random square of every image."""
    corners = jax.random.randint(key, (len(x), 2), 0, jnp.array([x.shape[1:3]]) - size + 1)
    return jax.vmap(lambda image, at: jax.lax.dynamic_slice(image, (at[0], at[1], 0), (size, size, x.shape[3])))(
        x, corners
    )


def run_autoencoder(config: TrainAutoencoder, console: Console) -> dict[str, Any]:
    """Train, measure on held-out pictures, write `vae/`."""
    train_set, test_set = load_source(config.data, "train"), load_source(config.data, "test")
    module = build(config.channels, config.latents)
    crop = jnp.zeros((1, config.crop, config.crop, train_set.images.shape[-1]))
    init_key, train_key = jax.random.split(jax.random.key(config.seed))
    length = TrainConfig(
        num_steps=config.steps,
        optimizer=OptimizerConfig(config.learning_rate),
        directory=str(config.out),
        evaluate_every=1_000_000,
    )
    state = train(
        length,
        functools.partial(loss, module, config),
        module.init(init_key, crop)["params"],
        batch_iterator(train_set, config.batch_size, config.seed),
        train_key,
        resume=config.resume,
    )
    encoded: Any = module.apply({"params": state.ema}, jnp.asarray(train_set.scaled(slice(500))), method="encode")
    spread = float(jnp.std(encoded))
    module = dataclasses.replace(module, scaling_factor=1.0 / spread, parent=None)
    size = train_set.images.shape[1]
    save_model(config.folder / "vae", module, state.ema, storage=STORAGE, sample_size=size)
    outcome = measure(config.folder, test_set) | {"seconds": read_metrics(config.out / "metrics.jsonl")[-1]["seconds"]}
    console.print(outcome)
    command = command_line("experiments.models.latent autoencoder", config, never=("out", "folder", "resume"))
    shipped = dataclasses.replace(config, folder=Path(config.folder.name))
    write_result("latent_autoencoder", outcome, config=shipped, seed=config.seed, command=command)
    return outcome


def measure(folder: Path, images: ImageSource) -> dict[str, Any]:
    """Reconstructions of held-out pictures: RMS error of values in [-1, 1], and what a latent is like."""
    autoencoder = load_autoencoder(folder / "vae")
    x = images.scaled()
    latents = np.concatenate([np.asarray(autoencoder.encode(jnp.asarray(part))) for part in _parts(x)])
    back = np.concatenate([np.asarray(autoencoder.decode(jnp.asarray(part))) for part in _parts(latents)])
    return {
        "rms_error": float(np.sqrt(np.mean((back - x) ** 2))),
        "rms_of_images": float(np.std(x)),
        "latent_shape": latents.shape[1:],
        "latent_std": float(latents.std()),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(autoencoder.params)),
    }


def _parts(x: np.ndarray) -> list[np.ndarray]:
    return np.array_split(x, -(-len(x) // 100))
