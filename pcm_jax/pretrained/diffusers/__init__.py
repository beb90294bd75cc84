"""Checkpoints that diffusers wrote: denoisers, autoencoders, schedulers and text embeddings."""

from pcm_jax.pretrained.diffusers.hub import snapshot
from pcm_jax.pretrained.diffusers.keys import Source, key_map
from pcm_jax.pretrained.diffusers.load import (
    FOLDERS,
    Autoencoder,
    Denoiser,
    Pipeline,
    load_autoencoder,
    load_denoiser,
    load_pipeline,
)
from pcm_jax.pretrained.diffusers.lora import load_lora
from pcm_jax.pretrained.diffusers.save import save_model
from pcm_jax.pretrained.diffusers.schedulers import Scheduler, load_scheduler
from pcm_jax.pretrained.diffusers.text import load_embeddings, text_embeddings

__all__ = [
    "FOLDERS",
    "Autoencoder",
    "Denoiser",
    "Pipeline",
    "Scheduler",
    "Source",
    "key_map",
    "load_autoencoder",
    "load_denoiser",
    "load_embeddings",
    "load_lora",
    "load_pipeline",
    "load_scheduler",
    "save_model",
    "snapshot",
    "text_embeddings",
]
