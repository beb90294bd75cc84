"""The tensors of one or several safetensors files, read one at a time. Nothing is ever unpickled."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from pcm_jax.pretrained.diffusers.config import read_json

_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(jnp.bfloat16),
}
_COUNTER = ".num_batches_tracked"
"""Steps that a batch norm was trained for: an integer that nothing reads."""

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_STEMS = ("diffusion_pytorch_model", "model")
FILE = "diffusion_pytorch_model.safetensors"
"""What diffusers calls the weights of one model."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Where one tensor lies: `shape` numbers of `dtype` at byte `offset` of `path`."""

    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int

    def read(self) -> np.ndarray:
        """Its values. The file is read, not mapped: mapped pages would count as this process's memory too."""
        count = math.prod(self.shape)
        return np.fromfile(self.path, self.dtype, count, offset=self.offset).reshape(self.shape)


def tensors(path: Path, variant: str | None = None) -> dict[str, Tensor]:
    """Every tensor of a safetensors file or of a diffusers folder, {key: where it lies}; reads headers alone.

    Args:
        path: a safetensors file, or a folder with one, or with several and their index.
        variant: such as "fp16", for the files that have it in their names.

    Raises:
        ValueError: no such file, only pickles, a missing or truncated shard, or one without the keys of the index.
    """
    if path.is_file():
        return _header(path)
    tail = f".{variant}" if variant else ""
    for stem in _STEMS:
        if (path / f"{stem}{tail}.safetensors").is_file():
            return _header(path / f"{stem}{tail}.safetensors")
        index = path / f"{stem}.safetensors.index{tail}.json"
        if index.is_file():
            return _sharded(index)
    raise ValueError(_nothing_there(path, variant))


def _sharded(index: Path) -> dict[str, Tensor]:
    places = read_json(index, "index of shards").get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise ValueError(f"{index} has no 'weight_map' of file names; copy it again")
    found: dict[str, Tensor] = {}
    for name in sorted(set(places.values())):
        shard = index.parent / name
        if Path(name).name != name or not shard.is_file():
            raise ValueError(f"the shard {name} that {index} names is missing; copy it beside the index")
        stored = _header(shard)
        expected = {key for key, place in places.items() if place == name and not key.endswith(_COUNTER)}
        if stored.keys() != expected:
            key = sorted(stored.keys() ^ expected)[0]
            raise ValueError(f"{shard} and {index} disagree on the tensor {key!r}; copy both again")
        found |= stored
    return found


def _header(path: Path) -> dict[str, Tensor]:
    """What the file says of its tensors; checked against its length by the safetensors library."""
    if path.suffix != ".safetensors":
        raise ValueError(f"{path} is no safetensors file. {_why_no_pickles(path.suffix)}")
    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        size = path.stat().st_size
        raise ValueError(
            f"{path} is truncated or no safetensors file ({error}); it has {size} bytes, copy it again"
        ) from error
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    found = {}
    for key, entry in header.items():
        if key.endswith(_COUNTER):
            continue
        if entry["dtype"] not in _DTYPES:
            raise ValueError(
                f"{path}: tensor {key!r} is {entry['dtype']}; save the model in {', '.join(_DTYPES)} instead"
            )
        offset = 8 + length + entry["data_offsets"][0]
        found[key] = Tensor(path, _DTYPES[entry["dtype"]], tuple(entry["shape"]), offset)
    return found


def _nothing_there(path: Path, variant: str | None) -> str:
    if not path.is_dir():
        return f"there is no folder {path}; pass one that save_pretrained wrote, or a safetensors file"
    other = sorted(file.name for file in path.glob("*.safetensors"))
    if other:
        name = f"the variant {variant!r}" if variant else "no variant"
        return f"{path} has no weights of {name}, but {', '.join(other)}; pass variant='fp16' or the file's own path"
    pickles = sorted(file.name for pattern in _PICKLES for file in path.glob(pattern))
    if pickles:
        return f"{path} holds no safetensors file, only {pickles[0]}. {_why_no_pickles(pickles[0])}"
    return f"{path} holds no safetensors file; copy diffusion_pytorch_model.safetensors there"


def _why_no_pickles(name: str) -> str:
    return (
        f"A {Path(name).suffix or name} file is a pickle, which can run any program when it is read, so it is never "
        "read here; where you trust it, convert it with diffusers: "
        "Model.from_pretrained(folder).save_pretrained(folder, safe_serialization=True)"
    )
