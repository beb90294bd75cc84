"""Trained models inside the package, parameters as safetensors files, and checkpoints of diffusers."""

from pcm_jax.pretrained import diffusers
from pcm_jax.pretrained.adapters import ADAPTERS, PretrainedAdapter, available_adapters, load_adapter, save_adapter
from pcm_jax.pretrained.diffusers import FOLDERS
from pcm_jax.pretrained.diffusion_policy import load_unet1d
from pcm_jax.pretrained.lerobot import lerobot_scheduler, load_lerobot
from pcm_jax.pretrained.models import WEIGHTS, ModelConfig, Pretrained, available, export, load
from pcm_jax.pretrained.policies import (
    POLICIES,
    PolicyConfig,
    available_policies,
    build_policy,
    export_policy,
    load_policy,
    save_policy_config,
)
from pcm_jax.pretrained.priors import PRIORS, available_priors, load_prior, save_prior
from pcm_jax.pretrained.safetensors_io import load_arrays, load_metadata, load_params, save_params

__all__ = [
    "ADAPTERS",
    "FOLDERS",
    "POLICIES",
    "PRIORS",
    "WEIGHTS",
    "ModelConfig",
    "PolicyConfig",
    "Pretrained",
    "PretrainedAdapter",
    "available",
    "available_adapters",
    "available_policies",
    "available_priors",
    "build_policy",
    "diffusers",
    "export",
    "export_policy",
    "lerobot_scheduler",
    "load",
    "load_adapter",
    "load_arrays",
    "load_lerobot",
    "load_metadata",
    "load_params",
    "load_policy",
    "load_prior",
    "load_unet1d",
    "save_adapter",
    "save_params",
    "save_policy_config",
    "save_prior",
]
