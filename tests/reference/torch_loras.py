"""PyTorch's side of the import of LoRA files: every adapted layer adds scale B(A x), as its own module would run it.

Which layer a kohya name means is what diffusers' own conversion says.
"""

from __future__ import annotations

from typing import Any

import random_loras as loras
import torch
from diffusers.loaders import lora_conversion_utils as conversion
from torch.nn import functional


def adapt(name: str, model: Any) -> None:
    """Adds the case's LoRA to the model, by hooks."""
    case = loras.CASES[name]
    state = {key: torch.from_numpy(value.copy()) for key, value in loras.arrays(name).items()}
    if case["names"].startswith("lora_unet_"):
        if any("input_blocks" in key for key in state):
            state = conversion._maybe_map_sgm_blocks_to_diffusers(state, model.config)
        state, alphas = conversion._convert_non_diffusers_lora_to_diffusers(state)
        assert len(alphas) == len(case["layers"])
    for key, value in state.items():
        side = next((each for each in (".lora_A.", "_lora.down.", ".lora.down.") if each in key), None)
        if side is None:
            continue
        other = key.replace("lora_A", "lora_B").replace("lora.down", "lora.up")
        path = key.split(side)[0].removeprefix("base_model.model.").removeprefix("unet.").removeprefix("transformer.")
        path = path.replace(".processor", "").removesuffix(".to_out")
        path += ".to_out.0" if key.split(side)[0].endswith(".to_out") else ""
        hook(model.get_submodule(path), value, state[other], loras.scale(name, path, value.shape[0]))


def hook(module: torch.nn.Module, down: torch.Tensor, up: torch.Tensor, scale: float) -> None:
    def added(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        x = inputs[0]
        if isinstance(module, torch.nn.Conv2d):
            hidden = functional.conv2d(x, down, stride=module.stride, padding=module.padding)
            return output + scale * functional.conv2d(hidden, up)
        return output + scale * functional.linear(functional.linear(x, down), up)

    module.register_forward_hook(added)
