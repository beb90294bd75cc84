"""The key map: every parameter of a network, the tensor of the PyTorch checkpoint that it comes from, and its layout.

Modules carry the names of their PyTorch originals, so the map is a rule with few words: "a.0/b/kernel" comes from
"a.0.b.weight". It is total in both directions: no parameter without a tensor, no tensor without a parameter.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from pcm_jax.pretrained.diffusers.shards import Tensor
from pcm_jax.trees import flatten
from pcm_jax.types import Params

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "embedding": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
"""Names of parameters that PyTorch calls otherwise."""

_LAYOUTS: dict[int, tuple[int, ...]] = {2: (1, 0), 3: (2, 1, 0), 4: (2, 3, 1, 0)}
"""Axes of a kernel by its number of them: PyTorch has (out, in, ..), Flax (.., in, out)."""

_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD = re.compile(rf"(attentions\.\d+)\.({'|'.join(_OLD_ATTENTION)})\.(weight|bias)$")
"""How attention over pixels was called until diffusers 0.16; the files of Stable Diffusion and LDM still have it."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A checkpoint's key and the order of its axes in Flax; None leaves them. flipped: its last axis runs backwards."""

    key: str
    axes: tuple[int, ...] | None
    flipped: bool = False

    def shape(self, flax: tuple[int, ...]) -> tuple[int, ...]:
        """The tensor's shape, of that of the parameter."""
        if self.axes is None:
            return flax
        return tuple(flax[self.axes.index(axis)] for axis in range(len(flax)))

    def array(self, tensor: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """The parameter, of the tensor; one copy at most. What dtype cannot hold becomes infinite."""
        tensor = tensor[..., ::-1] if self.flipped else tensor
        with np.errstate(over="ignore"):
            return (tensor if self.axes is None else tensor.transpose(self.axes)).astype(dtype, order="C", copy=False)

    def tensor(self, array: np.ndarray) -> np.ndarray:
        """The checkpoint's tensor, of the parameter: the inverse of `array`."""
        tensor = array if self.axes is None else array.transpose(np.argsort(self.axes))
        return np.ascontiguousarray(tensor[..., ::-1] if self.flipped else tensor)


def key_map(like: Params) -> dict[str, Source]:
    """{"a.0/b/kernel": Source("a.0.b.weight", axes)} of a tree of parameters or of their shapes."""
    sources = {}
    for name, leaf in flatten(like).items():
        *modules, last = name.split("/")
        axes = _LAYOUTS[len(leaf.shape)] if last == "kernel" else None
        sources[name] = Source(".".join([*modules, _LEAVES.get(last, last)]), axes)
    return sources


def match(
    like: Params, stored: Mapping[str, Tensor], where: str, sources: Mapping[str, Source] | None = None
) -> dict[str, tuple[Source, Tensor]]:
    """Each parameter's source and tensor.

    Args:
        like: the network's parameters, or their shapes.
        stored: the checkpoint's tensors.
        sources: of every parameter, by default the `key_map` of diffusers' models.
        where: the checkpoint, for errors.

    Raises:
        ValueError: a missing or leftover tensor, or one of another shape; names the first.
    """
    current = {_OLD.sub(_renamed, key): key for key in stored}
    matched: dict[str, tuple[Source, Tensor]] = {}
    shapes: dict[str, Any] = flatten(like)
    left = set(current)
    sources = key_map(like) if sources is None else sources
    for name, source in sources.items():
        expected = source.shape(tuple(shapes[name].shape))
        if source.key not in current:
            extra = sorted(left - {other.key for other in sources.values()})
            instead = f"; it has {current[extra[0]]!r}, which nothing expects" if extra else ""
            raise ValueError(
                f"{where}: the tensor {source.key!r} {expected} is missing{instead}. Take the config.json that belongs "
                "to these weights"
            )
        tensor = stored[current[source.key]]
        if tensor.shape != expected:
            raise ValueError(
                f"{tensor.path}: {current[source.key]!r} has shape {tensor.shape}, the configuration says {expected}. "
                "Take the config.json that belongs to these weights"
            )
        left.discard(source.key)
        matched[name] = source, tensor
    if left:
        key = current[sorted(left)[0]]
        raise ValueError(
            f"{stored[key].path}: the tensor {key!r} {stored[key].shape} is left over, nothing expects it. Take the "
            "config.json that belongs to these weights, or save them without it"
        )
    return matched


def _renamed(found: re.Match[str]) -> str:
    return f"{found[1]}.{_OLD_ATTENTION[found[2]]}.{found[3]}"
