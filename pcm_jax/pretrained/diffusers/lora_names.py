"""What LoRA files call the layers of a network: diffusers' names, kohya's, and those of Stability's own code (sgm)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pcm_jax.pretrained.diffusers.keys import Source

_FLAT = ("lora_unet_", "lora_transformer_")
"""Before kohya's names, which have underscores for dots."""

_SGM_LAYERS = (
    (r"\.conv1$", ".in_layers.2"),
    (r"\.conv2$", ".out_layers.3"),
    (r"\.time_emb_proj$", ".emb_layers.1"),
    (r"\.conv_shortcut$", ".skip_connection"),
)
_SGM_ENDS = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)(.*)")
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)(.*)")


def layer_names(sources: Mapping[str, Source], module: Any) -> dict[str, str]:
    """{a layer's name in a file: its kernel's in the parameters}, for every kernel and every style.

    Args:
        sources: the key map of the network.
        module: the network; sgm's names count the layers of its blocks.
    """
    kernels = {source.key.removesuffix(".weight"): name for name, source in sources.items() if name.endswith("/kernel")}
    found = dict(kernels)
    layers = getattr(module, "layers_per_block", None)
    for path, name in kernels.items():
        others = [path]
        if isinstance(layers, int):
            others += [other for other in [_sgm(path, layers, kernels)] if other is not None]
        found |= {prefix + other.replace(".", "_"): name for other in others for prefix in _FLAT}
    return found


def _sgm(path: str, layers: int, kernels: Mapping[str, str]) -> str | None:
    """The name in sgm's UNet, which numbers all layers of a half in a row."""
    if path in _SGM_ENDS:
        return _SGM_ENDS[path]
    if middle := _MIDDLE.fullmatch(path):
        kind, index, rest = middle.groups()
        return _inside(f"middle_block.{1 if kind == 'attentions' else 2 * int(index)}{rest}")
    block = _BLOCK.fullmatch(path)
    if block is None:
        return None
    half, level, kind, index, rest = block.groups()
    first = int(level) * (layers + 1)
    if half == "down":
        number = first + 1 + (layers if kind == "downsamplers" else int(index))
        return _inside(f"input_blocks.{number}.{int(kind == 'attentions')}{'.op' if kind == 'downsamplers' else rest}")
    if kind == "upsamplers":
        attends = any(key.startswith(f"up_blocks.{level}.attentions.") for key in kernels)
        return f"output_blocks.{first + layers}.{1 + attends}.conv"
    return _inside(f"output_blocks.{first + int(index)}.{int(kind == 'attentions')}{rest}")


def _inside(path: str) -> str:
    for pattern, replacement in _SGM_LAYERS:
        path = re.sub(pattern, replacement, path)
    return path
