"""A class-conditional UNet2DModel of the autoencoder's latents."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

import pcm_jax as pcm
from experiments.common.figures import RESULTS, STORAGE, command_line, write_result
from experiments.models.base_quality import quality
from pcm_jax.data import batch_iterator, load_source
from pcm_jax.files import write_text
from pcm_jax.guidance import classifier_free
from pcm_jax.networks import linen
from pcm_jax.networks.diffusers import UNet2DModel
from pcm_jax.pretrained import FOLDERS
from pcm_jax.pretrained.diffusers import Pipeline, load_autoencoder, load_pipeline, load_scheduler, save_model
from pcm_jax.training import OptimizerConfig, TrainConfig, denoising_loss, read_metrics, train

SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "prediction_type": "epsilon",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "timestep_spacing": "trailing",
}
"""The betas of the CelebA-HQ latent diffusion model; its latents are not bounded, so nothing is clipped."""
INDEX = {
    "_class_name": "LDMPipeline",
    "unet": ["diffusers", "UNet2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "scheduler": ["diffusers", "DDIMScheduler"],
}


@dataclasses.dataclass(frozen=True)
class TrainDenoiser:
    """Train the denoiser on encoded pictures; the folder must hold `vae/`.

    channels: of each level; all but the first attend. label_dropout: for classifier-free guidance, whose null label is
    the number of classes. out: checkpoints. folder: of the pipeline. judged: samples that are measured at the end.
    """

    data: str = "emoji32"
    channels: tuple[int, ...] = (48, 96)
    steps: int = 4_000
    batch_size: int = 32
    learning_rate: float = 1e-3
    label_dropout: float = 0.1
    ema_decay: float = 0.999
    judged: int = 300
    out: Path = Path("experiments/out/latent/denoiser")
    folder: Path = FOLDERS / "emoji32-latent"
    resume: bool = True
    seed: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Latents:
    """Encoded pictures and their labels, for `batch_iterator`."""

    name: str
    x: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    def gather(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at `index`."""
        return {"x": self.x[index], "label": self.labels[index]}


def build(channels: tuple[int, ...], latents: int, num_classes: int) -> UNet2DModel:
    """Attention everywhere but at the first level."""
    inner = len(channels) - 1
    return UNet2DModel(
        in_channels=latents,
        out_channels=latents,
        down_block_types=("DownBlock2D",) + ("AttnDownBlock2D",) * inner,
        up_block_types=("AttnUpBlock2D",) * inner + ("UpBlock2D",),
        block_out_channels=channels,
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=16,
        num_class_embeds=num_classes + 1,
    )


def run_denoiser(config: TrainDenoiser, console: Console) -> dict[str, Any]:
    """Encode, train, write the pipeline, measure samples."""
    train_set, test_set = load_source(config.data, "train"), load_source(config.data, "test")
    null = train_set.num_classes
    autoencoder = load_autoencoder(config.folder / "vae")
    encode = jax.jit(autoencoder.encode)
    x = np.concatenate([np.asarray(encode(jnp.asarray(train_set.scaled(part)))) for part in _slices(len(train_set))])
    module = build(config.channels, x.shape[-1], null)
    model_fn = linen(module)
    _write(config.folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    schedule = load_scheduler(config.folder / "scheduler").schedule
    init_key, train_key = jax.random.split(jax.random.key(config.seed))
    state = train(
        TrainConfig(
            num_steps=config.steps,
            optimizer=OptimizerConfig(config.learning_rate, ema_decay=config.ema_decay),
            directory=str(config.out),
            evaluate_every=1_000_000,
        ),
        lambda params, batch, key: denoising_loss(
            params, model_fn, schedule, batch, key, label_dropout=config.label_dropout, null_label=null
        ),
        model_fn.init(init_key, jnp.asarray(x[:1]), jnp.zeros(1), jnp.zeros(1, jnp.int32)),
        batch_iterator(Latents(config.data, x, train_set.labels), config.batch_size, config.seed),
        train_key,
        resume=config.resume,
    )
    save_model(config.folder / "unet", module, state.ema, storage=STORAGE, sample_size=x.shape[1])
    _write(config.folder / "model_index.json", INDEX)
    labels = np.arange(config.judged) % null
    pipeline = load_pipeline(config.folder)
    curve = read_metrics(config.out / "metrics.jsonl")
    outcome = {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.ema)),
        "train_loss": float(np.mean([line["loss"] for line in curve if "loss" in line][-10:])),
        "seconds": curve[-1]["seconds"],
        "sampler": "DDIM-50, sequential",
        "quality": quality(draw(pipeline, labels, seed=1), labels, train_set, test_set),
        "quality_guidance_2": quality(draw(pipeline, labels, guidance=2.0, seed=1), labels, train_set, test_set),
    }
    console.print(outcome)
    command = command_line("experiments.models.latent denoiser", config, never=("out", "folder", "resume"))
    shipped = dataclasses.replace(config, folder=Path(config.folder.name))
    write_result("latent_denoiser", outcome, config=shipped, seed=config.seed, command=command)
    return outcome


@dataclasses.dataclass(frozen=True)
class SampleLatent:
    """Draw a grid, one column a class. rows: images a class. guidance: 1 is the conditional model."""

    folder: Path = FOLDERS / "emoji32-latent"
    out: Path = RESULTS / "emoji32_latent_samples.png"
    rows: int = 8
    steps: int = 50
    guidance: float = 2.0
    seed: int = 0


def run_sample(config: SampleLatent, console: Console) -> Path:
    """The grid."""
    from experiments.common.plots import image_grids

    pipeline = load_pipeline(config.folder)
    null = pipeline.denoiser.config["num_class_embeds"] - 1
    labels = np.tile(np.arange(null), config.rows)
    images = draw(pipeline, labels, steps=config.steps, guidance=config.guidance, seed=config.seed)
    image_grids({f"latent DDIM-{config.steps}, guidance {config.guidance:g}": images}, config.out, columns=null)
    console.print(f"wrote {config.out}")
    return config.out


def draw(pipeline: Pipeline, labels: np.ndarray, *, steps: int = 50, guidance: float = 1.0, seed: int) -> np.ndarray:
    """Decoded samples `[n, H, W, C]` of the labels `[n]`."""
    denoiser = pipeline.denoiser
    assert denoiser.sample_shape is not None and pipeline.autoencoder is not None
    model_fn: Any = denoiser.model_fn
    if guidance != 1.0:
        model_fn = classifier_free(model_fn, guidance, null_cond=denoiser.config["num_class_embeds"] - 1)
    noise = jax.random.normal(jax.random.key(seed), (len(labels), *denoiser.sample_shape))
    solver = pipeline.scheduler.solver(steps)
    out = pcm.sample_sequential(model_fn, denoiser.params, noise, solver, cond=jnp.asarray(labels, jnp.int32))
    decode = jax.jit(pipeline.autoencoder.decode)
    return np.concatenate([np.asarray(decode(out.sample[part])) for part in _slices(len(labels))])


def _slices(count: int, size: int = 100) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]


def _write(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")
