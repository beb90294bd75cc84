"""The networks of diffusers checkpoints as Flax Linen modules, with the parameter names of their PyTorch originals."""

from pcm_jax.networks.diffusers.autoencoder import AutoencoderKL, VQModel
from pcm_jax.networks.diffusers.dit import DiTTransformer2DModel
from pcm_jax.networks.diffusers.mmdit import SD3Transformer2DModel
from pcm_jax.networks.diffusers.unet import UNet2DModel
from pcm_jax.networks.diffusers.unet_condition import UNet2DConditionModel

__all__ = [
    "AutoencoderKL",
    "DiTTransformer2DModel",
    "SD3Transformer2DModel",
    "UNet2DConditionModel",
    "UNet2DModel",
    "VQModel",
]
