"""Trained models inside the package, and parameters as safetensors files."""

from pcm_jax.pretrained.models import WEIGHTS, ModelConfig, Pretrained, available, export, load
from pcm_jax.pretrained.safetensors_io import load_metadata, load_params, save_params

__all__ = [
    "WEIGHTS",
    "ModelConfig",
    "Pretrained",
    "available",
    "export",
    "load",
    "load_metadata",
    "load_params",
    "save_params",
]
