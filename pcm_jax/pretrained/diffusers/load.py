"""Folders that diffusers wrote, as model functions and parameters."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from pcm_jax.files import reads
from pcm_jax.networks import LinenModel, linen
from pcm_jax.networks.diffusers import AutoencoderKL
from pcm_jax.pretrained.diffusers import config as configs
from pcm_jax.pretrained.diffusers.schedulers import Scheduler, load_scheduler
from pcm_jax.pretrained.diffusers.weights import load_weights
from pcm_jax.types import Array, Params

FOLDERS = Path(__file__).parents[1] / "folders"
"""Pipelines that come with the package, in diffusers' own layout."""


@dataclasses.dataclass(frozen=True, eq=False)
class Denoiser:
    """model_fn and params for the samplers. config: the content of config.json.

    sample_shape: (height, width, channels), or (horizon, actions); None if the config does not say.
    """

    model_fn: LinenModel
    params: Params
    sample_shape: tuple[int, ...] | None
    config: dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Autoencoder:
    """Images `[B, H, W, C]` in -1..1 to the latents that the diffusion model sees, and back.

    scale, shift: the diffusion model's latents are (z - shift) scale, z the autoencoder's. factor: pixels per latent.
    """

    module: Any
    params: Params
    scale: float
    shift: float
    factor: int
    config: dict[str, Any]

    def encode(self, images: Array, key: Array | None = None) -> Array:
        """Latents `[B, H / factor, W / factor, c]`: their mean, or a draw where an AutoencoderKL is given a key."""
        if key is None:
            z = self._apply(images, "encode")
        elif isinstance(self.module, AutoencoderKL):
            mean, log_variance = self._apply(images, "moments")
            z = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape, mean.dtype)
        else:
            raise ValueError("a VQModel encodes without noise; leave key out")
        return (z - self.shift) * self.scale

    def decode(self, latents: Array) -> Array:
        """Images of the diffusion model's latents."""
        out: Array = self._apply(latents / self.scale + self.shift, "decode")
        return out

    def _apply(self, x: Array, method: str) -> Any:
        return self.module.apply({"params": self.params}, x, method=method)


@dataclasses.dataclass(frozen=True, eq=False)
class Pipeline:
    """What `model_index.json` puts together; autoencoder is None for a model of pixels."""

    denoiser: Denoiser
    autoencoder: Autoencoder | None
    scheduler: Scheduler


@reads("path")
def load_denoiser(
    path: str | Path, *, variant: str | None = None, dtype: DTypeLike = jnp.float32, config: str | Path | None = None
) -> Denoiser:
    """A UNet2DModel, UNet2DConditionModel (Stable Diffusion, SDXL), DiTTransformer2DModel or SD3Transformer2DModel.

    Args:
        path: a folder with config.json and safetensors files, sharded or not, or one safetensors file.
        variant: such as "fp16", for the files that have it in their names.
        dtype: of the parameters and of the layers; samples stay float32. Normalisations, softmax and the last
            convolution compute in float32 whatever it is.
        config: config.json, if it lies elsewhere.

    Returns:
        Its model_fn takes images `[B, H, W, C]`, and as cond what the network's class says: labels `[B]`, a text's
        embedding `[B, L, D]`, or for SDXL and SD3 a dict. What all samples share may be wrapped in `pcm_jax.Shared`.

    Raises:
        ValueError: one line that names the file or the key; nothing half-loaded is returned.

    Example:
        model = pcm_jax.pretrained.diffusers.load_denoiser("ldm-celebahq-256/unet")
        solver = pcm_jax.pretrained.diffusers.load_scheduler("ldm-celebahq-256/scheduler").solver(100)
        pcm_jax.sample_picard(model.model_fn, model.params, noise, solver)
    """
    module, params, content = _load(path, variant, dtype, config, configs.DENOISERS)
    size = content.get("sample_size")
    shape = None
    if size is not None:
        height, width = size if isinstance(size, list) else (size, size)
        shape = (int(height), int(width), int(module.in_channels))
    return Denoiser(linen(module), params, shape, content)


@reads("path")
def load_autoencoder(
    path: str | Path, *, variant: str | None = None, dtype: DTypeLike = jnp.float32, config: str | Path | None = None
) -> Autoencoder:
    """An AutoencoderKL or VQModel of diffusers; arguments and errors as of `load_denoiser`."""
    module, params, content = _load(path, variant, dtype, config, configs.AUTOENCODERS)
    shift = getattr(module, "shift_factor", None) or 0.0
    factor = 2 ** (len(module.block_out_channels) - 1)
    return Autoencoder(module, params, module.scaling_factor, shift, factor, content)


@reads("path")
def load_pipeline(
    path: str | Path, *, variant: str | None = None, dtype: DTypeLike = jnp.float32, scheduler: str | None = None
) -> Pipeline:
    """Network, autoencoder and scheduler of a folder with `model_index.json`.

    Args:
        path, variant, dtype: as for `load_denoiser`.
        scheduler: the scheduler's class, in place of the one that the folder names; it keeps the folder's betas.

    Raises:
        ValueError: as `load_denoiser` and `load_scheduler` do.
    """
    path = Path(path)
    index = configs.read_json(path / "model_index.json", "pipeline")
    network = next((name for name in ("unet", "transformer") if name in index), None)
    if network is None:
        raise ValueError(
            f"{path / 'model_index.json'} names no 'unet' and no 'transformer'; pipelines without one are not supported"
        )
    sampler = load_scheduler(path / "scheduler", scheduler)
    coder = next((name for name in ("vae", "vqvae") if name in index), None)
    options: dict[str, Any] = {"variant": variant, "dtype": dtype}
    autoencoder = None if coder is None else load_autoencoder(path / coder, **options)
    return Pipeline(load_denoiser(path / network, **options), autoencoder, sampler)


def _load(
    path: str | Path, variant: str | None, dtype: DTypeLike, config: str | Path | None, classes: tuple[str, ...]
) -> tuple[Any, Params, dict[str, Any]]:
    """(module, parameters, content of config.json)."""
    path = Path(path)
    file = Path(config) if config else (path if path.is_dir() else path.parent) / "config.json"
    content = configs.read_json(file, "model configuration")
    name = content.get("_class_name")
    if name in configs.SPECS and name not in classes:
        raise ValueError(f"{file}: {name} is none of {', '.join(classes)}; load it with the function for its kind")
    module = configs.build(content, str(file), dtype)
    return module, load_weights(module, path, variant, dtype, str(file)), content
