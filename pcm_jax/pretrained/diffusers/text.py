"""What a text-conditioned network is given: embeddings from a file, or from the `transformers` of the user."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from pcm_jax.files import reads
from pcm_jax.types import Array


@reads("path")
def load_embeddings(path: str | Path) -> Array:
    """Embeddings `[B, L, D]`, float32, of an .npy file: one row per prompt, as `text_embeddings` returns them.

    Raises:
        ValueError: no such file, no array of three axes of floats, or values that are not finite.
    """
    path = Path(path)
    if path.suffix != ".npy" or not path.is_file():
        raise ValueError(f"there is no .npy file at {path}; write the embeddings with numpy.save")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is no .npy file of numbers ({error}); write it with numpy.save") from error
    if array.ndim != 3 or not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"{path} holds {array.dtype} of shape {array.shape}; embeddings are floats (prompts, tokens, width)"
        )
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{path} holds values that are NaN or infinite; compute the embeddings again in float32")
    return jnp.asarray(array, jnp.float32)


def text_embeddings(prompts: str | Sequence[str], path: str | Path) -> Array:
    """Embeddings `[B, L, D]`, float32, of prompts by the text encoder of a diffusers folder.

    Runs PyTorch on the CPU, through `transformers`, which the user installs. Nothing is downloaded or unpickled.

    Args:
        prompts: one or several; "" is what classifier-free guidance takes as no prompt.
        path: a folder with the sub-folders tokenizer and text_encoder, such as Stable Diffusion's.

    Raises:
        ValueError: a missing folder, or no safetensors file in it.
        ImportError: `transformers` is not installed.
    """
    path = Path(path)
    for part in ("tokenizer", "text_encoder"):
        if not (path / part).is_dir():
            raise ValueError(f"there is no folder {path / part}; pass the folder of the pipeline")
    if not list((path / "text_encoder").glob("*.safetensors")):
        raise ValueError(
            f"{path / 'text_encoder'} holds no safetensors file; a pickle is never read here. Where you trust it, "
            "convert it with CLIPTextModel.from_pretrained(folder).save_pretrained(folder, safe_serialization=True)"
        )
    library = optional("transformers", "text embeddings from prompts", "or pass an .npy file to load_embeddings")
    tokenizer: Any = library.CLIPTokenizer.from_pretrained(path / "tokenizer", local_files_only=True)
    encoder: Any = library.CLIPTextModel.from_pretrained(
        path / "text_encoder", local_files_only=True, use_safetensors=True
    )
    encoder = encoder.float().eval().requires_grad_(False)
    given = [prompts] if isinstance(prompts, str) else list(prompts)
    tokens = tokenizer(
        given, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    return jnp.asarray(encoder(tokens.input_ids)[0].numpy(), jnp.float32)


def optional(name: str, purpose: str, otherwise: str) -> Any:
    """A library that only this purpose needs."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{purpose} need {name}: python -m pip install {name}; {otherwise}") from error
