"""Parameters as safetensors files, checked key by key against the tree that expects them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pcm_jax.files import reads, whole
from pcm_jax.trees import first_mismatch, flatten, unflatten
from pcm_jax.types import Params


def save_params(
    path: str | Path, params: Params, metadata: Mapping[str, Any] | None = None, *, storage: DTypeLike | None = None
) -> None:
    """Write `params` under the keys "a/b/c", and `metadata` as JSON in the file's header.

    The file is replaced in one step: an interrupted save leaves the old one.

    Args:
        path: of the file.
        params: any tree of arrays.
        metadata: what JSON can hold.
        storage: dtype of float32 leaves in the file, as for `rounded`. `load_params` gives them back as float32.
    """
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in flatten(rounded(params, storage)).items()}
    content = save(arrays, metadata={"metadata": json.dumps(metadata or {}, sort_keys=True)})
    with whole(path) as scratch:
        scratch.write_bytes(content)


def rounded(params: Params, storage: DTypeLike | None) -> Params:
    """Arrays on the host, float32 ones as `storage`: bfloat16 halves the file and keeps 8 bits of each number.

    Args:
        params: any tree of arrays. Those of another dtype stay as they are.
        storage: bfloat16, or float32 or None for no change.

    Raises:
        ValueError: another dtype; float16 would flush small weights to zero.
    """
    dtype = np.dtype(np.float32 if storage is None else storage)
    if dtype not in (np.float32, jnp.bfloat16):
        raise ValueError(f"storage must be bfloat16 or float32, got {dtype.name}")

    def one(leaf: Any) -> np.ndarray:
        array = np.asarray(jax.device_get(leaf))
        return array.astype(dtype) if array.dtype == np.float32 else array

    return jax.tree.map(one, params)


def widened(stored: np.ndarray, like: Any) -> np.ndarray:
    """`stored`, as float32 if that is `like`'s dtype and it was stored in bfloat16."""
    narrow = stored.dtype == jnp.bfloat16 and getattr(like, "dtype", None) == np.float32
    return stored.astype(np.float32) if narrow else stored


@reads("path")
def load_params(path: str | Path, like: Params) -> Params:
    """The parameters in `path`, as a tree of `like`'s structure.

    Args:
        path: a safetensors file. Nothing is ever unpickled.
        like: arrays or `jax.ShapeDtypeStruct`s, for example from `jax.eval_shape(model_fn.init, ...)`.

    Raises:
        ValueError: no such file, no safetensors file, a truncated one, or one whose keys, shapes and dtypes are not
            exactly those of `like` (but for float32 that was stored in bfloat16); names the first that differs.
    """
    expected = flatten(like)
    stored = {name: widened(leaf, expected.get(name)) for name, leaf in _read(_path(path)).items()}
    problem = first_mismatch(expected, stored)
    if problem:
        raise ValueError(
            f"{path} does not hold this network's parameters: {problem}. Build the network with the configuration that "
            "the file was saved with, or take the file that belongs to it"
        )
    check_finite(path, stored)
    return unflatten({name: jnp.asarray(leaf) for name, leaf in stored.items()}, like)


def check_finite(path: Any, stored: Mapping[str, np.ndarray]) -> None:
    """ValueError that names the first array with NaN or inf in it."""
    for name, array in stored.items():
        if jnp.issubdtype(array.dtype, jnp.floating) and not np.isfinite(array.astype(np.float32)).all():
            raise ValueError(
                f"{path}: {name!r} holds NaN or inf, and every sample would be so; take a copy from before its "
                "training diverged, or copy it again"
            )


@reads("path")
def load_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of the file, {"a/b/c": array}; errors as for `load_params`."""
    return _read(_path(path))


@reads("path")
def load_metadata(path: str | Path) -> dict[str, Any]:
    """The metadata that `save_params` wrote; empty for a file of another program."""
    with _opened(_path(path)) as file:
        header = file.metadata() or {}
    return dict(json.loads(header.get("metadata", "{}")))


def _read(path: Path) -> dict[str, np.ndarray]:
    with _opened(path) as file:
        try:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        except (SafetensorError, TypeError) as error:
            raise _foreign(path, error) from error


def _path(path: Any) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"the path of a safetensors file is wanted, got {path!r}")
    return Path(path)


def _opened(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"there is no weights file at {path}; check the path, or make it with the training command")
    try:
        return safe_open(path, framework="numpy")
    except SafetensorError as error:
        raise _foreign(path, error) from error


def _foreign(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path} is truncated or not a safetensors file ({error}). Copy it again and compare its size "
        f"({path.stat().st_size} bytes here); convert a PyTorch or pickle checkpoint with safetensors.torch.save_file "
        "where you trust it, it is never unpickled here"
    )
