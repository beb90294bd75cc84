"""The parameters of a module from the tensors of a checkpoint, and their shapes without any."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from pcm_jax.pretrained.diffusers.config import AUTOENCODERS
from pcm_jax.pretrained.diffusers.keys import Source, match
from pcm_jax.pretrained.diffusers.shards import Tensor, tensors
from pcm_jax.trees import unflatten
from pcm_jax.types import Params


def load_weights(module: Any, path: Path, variant: str | None, dtype: DTypeLike, where: str) -> Params:
    """The parameters of `module`, tensor by tensor: beside them the memory holds two copies of one tensor at most."""
    try:
        like = shapes(module)
    except (ValueError, TypeError, ZeroDivisionError, IndexError) as error:
        raise ValueError(f"{where} describes no network that can be built: {error}") from error
    return read_params(like, match(like, tensors(path, variant), str(path)), dtype)


def read_params(like: Params, matched: Mapping[str, tuple[Source, Tensor]], dtype: DTypeLike) -> Params:
    """The tree of `like` from its tensors; ValueError where one is not finite."""
    loaded = {}
    # Largest first: the buffers of one fit into what those before it left, which saves a tenth of the peak.
    for name in sorted(matched, key=lambda name: -math.prod(matched[name][1].shape)):
        source, tensor = matched[name]
        array = source.array(tensor.read(), np.dtype(dtype))
        if not np.all(np.isfinite(array)):
            raise ValueError(
                f"{tensor.path}: tensor {source.key!r} has values that are NaN or infinite as {np.dtype(dtype).name}; "
                "copy the file again, or load it with dtype=jnp.float32"
            )
        loaded[name] = jnp.asarray(array)
    return unflatten(loaded, like)


@functools.lru_cache(maxsize=4)
def shapes(module: Any) -> Params:
    """Shapes of the module's parameters, without computing anything. Not to be changed: the next call gets it too."""
    # One pixel at the lowest level would leave nothing to halve with an odd size.
    side = 2 ** len(module.block_out_channels)
    x = jax.ShapeDtypeStruct((1, side, side, module.in_channels), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    if type(module).__name__ in AUTOENCODERS:
        return jax.eval_shape(module.init, key, x)["params"]
    t = jax.ShapeDtypeStruct((1,), jnp.float32)
    return jax.eval_shape(module.init, key, x, t, _cond(module))["params"]


def _cond(module: Any) -> Any:
    """The shape of a condition that the network accepts."""
    kind, label = module.class_embed_type, None
    if kind is None and module.num_class_embeds is not None:
        label = jax.ShapeDtypeStruct((1,), jnp.int32)
    elif kind == "timestep":
        label = jax.ShapeDtypeStruct((1,), jnp.float32)
    elif kind is not None:
        factor = 2 if module.time_embedding_type == "fourier" and hasattr(module, "cross_attention_dim") else 4
        width = module.time_embedding_dim or factor * module.block_out_channels[0]
        size = width if kind == "identity" else module.projection_class_embeddings_input_dim
        label = jax.ShapeDtypeStruct((1, size), jnp.float32)
    if not hasattr(module, "cross_attention_dim"):
        return label
    size = module.encoder_hid_dim or module.cross_attention_dim
    text = jax.ShapeDtypeStruct((1, 1, size[0] if isinstance(size, tuple) else size), jnp.float32)
    return text if label is None else {"text": text, "label": label}
