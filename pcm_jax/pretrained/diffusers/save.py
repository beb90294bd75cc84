"""Models of this package in the folders that diffusers reads, and this package too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from jax.typing import DTypeLike
from safetensors.numpy import save

from pcm_jax.files import whole, write_text
from pcm_jax.networks import diffusers as networks
from pcm_jax.pretrained.diffusers.config import SPECS
from pcm_jax.pretrained.diffusers.keys import key_map
from pcm_jax.pretrained.diffusers.shards import FILE
from pcm_jax.pretrained.safetensors_io import rounded
from pcm_jax.trees import flatten
from pcm_jax.types import Params

Module = (
    networks.UNet2DModel
    | networks.UNet2DConditionModel
    | networks.DiTTransformer2DModel
    | networks.SD3Transformer2DModel
    | networks.AutoencoderKL
    | networks.VQModel
)


def save_model(
    folder: str | Path, module: Module, params: Params, *, storage: DTypeLike | None = None, **extra: Any
) -> Path:
    """Write config.json and the weights as `save_pretrained` of diffusers does.

    Args:
        folder: made if need be; a file is replaced in one step.
        module: its fields become the configuration.
        params: its parameters, as `load_denoiser` returns them.
        storage: of the weights, as for `pretrained.save_params`; `load_denoiser` has a dtype of its own.
        extra: further keys of the configuration, such as sample_size.

    Returns:
        The path of the weights.

    Raises:
        ValueError: parameters that are not finite: nothing would load them again.
    """
    folder = Path(folder)
    kind = type(module).__name__
    fields = {name: getattr(module, name) for name in module.__dataclass_fields__}
    config = {name: value for name, value in fields.items() if name not in ("parent", "name", "dtype")}
    arrays = flatten(rounded(params, storage))
    tensors = {}
    for name, source in key_map(params).items():
        if not np.all(np.isfinite(arrays[name].astype(np.float32))):
            raise ValueError(f"parameter {name!r} holds NaN or inf; it is not written to {folder}")
        tensors[source.key] = source.tensor(arrays[name])
    assert kind in SPECS
    write_text(folder / "config.json", json.dumps({"_class_name": kind} | config | extra, indent=2) + "\n")
    content = save(tensors, metadata={"format": "pt"})
    with whole(folder / FILE) as scratch:
        scratch.write_bytes(content)
    return folder / FILE
