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

from pcm_jax.pretrained.diffusers.keys import Source, match
from pcm_jax.pretrained.diffusers.shards import Tensor, tensors
from pcm_jax.trees import unflatten
from pcm_jax.types import Params


def load_weights(module: Any, path: Path, variant: str | None, dtype: DTypeLike, where: str) -> Params:
    """The parameters of `module`, tensor by tensor: beside them the memory holds two copies of one tensor at most."""
    try:
        like = shapes(module)
    except (ValueError, TypeError, ZeroDivisionError, IndexError, AssertionError) as error:
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
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(module.init, key, *module.example())["params"]
