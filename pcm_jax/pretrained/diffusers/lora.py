"""LoRA files that users trained for a diffusers model, as factors of its parameters."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from safetensors import safe_open

from pcm_jax.files import reads
from pcm_jax.lora import LoRA
from pcm_jax.pretrained.diffusers.config import read_json
from pcm_jax.pretrained.diffusers.keys import key_map
from pcm_jax.pretrained.diffusers.load import Denoiser
from pcm_jax.pretrained.diffusers.lora_names import layer_names
from pcm_jax.pretrained.diffusers.shards import Tensor, tensors
from pcm_jax.trees import flatten

_FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
_PREFIX = re.compile(r"^(base_model\.model\.)?(unet\.|transformer\.)?")
_FACTOR = re.compile(
    r"(?P<layer>.+?)(?:\.lora_(?P<new>A|B|down|up)|(?:\.lora|_lora|\.lora_linear_layer)\.(?P<old>down|up))"
    r"(?:\.\w+)?\.weight$"
)
_SIDES = {"A": "down", "B": "up", "down": "down", "up": "up"}
_TEXT = re.compile(r"^(text_encoder|lora_te)")
_OTHER_KINDS = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "lora_mid": "a LoRA of three factors",
}


class _Part(NamedTuple):
    """One tensor of a file. key: its name there."""

    key: str
    tensor: Tensor


@reads("path")
def load_lora(path: str | Path, model: Denoiser, *, skip: str | None = None) -> LoRA:
    r"""The factors of a LoRA file: dW = (alpha / r) B A for each layer, with alpha / r in B, so that `scale` is 1.

    Names are those of diffusers and peft ("unet.mid_block..to_q.lora_A.weight", "..to_q_lora.down.weight") or of kohya
    ("lora_unet_mid_block_.._to_q.lora_down.weight", SDXL's "lora_unet_input_blocks_.." too). alpha comes from the
    file's "..alpha" tensors, its header, or the adapter_config.json beside it; without any alpha = r. Ranks and alphas
    may differ by layer.

    Args:
        path: a safetensors file, or a folder with pytorch_lora_weights.safetensors or adapter_model.safetensors.
        model: from `load_denoiser`.
        skip: a regular expression; keys that it is found in are left out, such as a text encoder's.

    Returns:
        For `pcm_jax.lora.merge` or `pcm_jax.networks.factored`. Merged parameters are a base like any other: a PCM
        adapter goes on top of them.

    Raises:
        ValueError: a file that is missing, truncated or no LoRA; a key that belongs to no layer of the model, a factor
            without its other half, or one of another shape; a decomposition that is no LoRA (DoRA, LoHa, LoKr).

    Example:
        style = diffusers.load_lora("style.safetensors", model, skip="^lora_te")
        base = pcm_jax.lora.merge(model.params, style, 0.8)
        pcm_jax.sample_picard(model.model_fn, base, noise, solver, cond=text)

    Reference: LoRA, arXiv 2106.09685; of convolutions, as LyCORIS (arXiv 2309.14859) has it.
    """
    file = _file(Path(path))
    stored = {key: tensor for key, tensor in tensors(file).items() if skip is None or not re.search(skip, key)}
    names = layer_names(key_map(model.params), model.model_fn.module)
    found, alphas = _sorted(stored, names, file)
    told = _Told.read(file)
    kernels, factors = flatten(model.params), {}
    for name, pair in found.items():
        for side, other in (("down", "up"), ("up", "down")):
            if side not in pair:
                raise ValueError(f"{file}: {pair[other].key!r} has no other half; copy the file again")
        kernel = kernels[name]
        down, up = _factors(pair, tuple(kernel.shape), file)
        rank = down.shape[-1]
        alpha = alphas[name] if name in alphas else told.alpha(name, rank)
        scale = alpha / (math.sqrt(rank) if told.root else rank)
        for side, array in (("down", down), ("up", up)):
            if not np.isfinite(array * np.float32(scale)).all():
                raise ValueError(f"{file}: {pair[side].key!r} has values that are NaN or infinite; copy the file again")
        factors[name] = {
            "down": jnp.asarray(down, kernel.dtype),
            "up": jnp.asarray(up * np.float32(scale), kernel.dtype),
        }
    return LoRA(factors)


def _file(path: Path) -> Path:
    if not path.is_dir():
        if not path.is_file():
            raise ValueError(f"there is no LoRA file at {path}; pass a safetensors file, or the folder that has one")
        return path
    file = next((path / name for name in _FILES if (path / name).is_file()), None)
    if file is None:
        raise ValueError(f"{path} holds no {' or '.join(_FILES)}; pass the file's own path")
    return file


def _sorted(
    stored: Mapping[str, Tensor], names: Mapping[str, str], file: Path
) -> tuple[dict[str, dict[str, _Part]], dict[str, float]]:
    """({kernel: {"down", "up"}}, {kernel: alpha}); every key is used, or named in an error."""
    found: dict[str, dict[str, _Part]] = {}
    alphas: dict[str, float] = {}
    for key, tensor in stored.items():
        match = _FACTOR.match(key)
        layer = match["layer"] if match else re.sub(r"([._]lora)?\.alpha$", "", key)
        name = names.get(_plain(layer))
        if name is None or (match is None and not key.endswith(".alpha")):
            raise ValueError(f"{file}: {_unknown(key, tensor)}")
        if match is None:
            if tensor.shape not in ((), (1,)):
                raise ValueError(f"{file}: {key!r} has shape {tensor.shape}, alpha is one number")
            alphas[name] = float(tensor.read().reshape(()))
            continue
        side = _SIDES[match["new"] or match["old"]]
        if side in found.setdefault(name, {}):
            raise ValueError(f"{file}: {key!r} and {found[name][side].key!r} are the same factor; keep one")
        found[name][side] = _Part(key, tensor)
    if not found:
        raise ValueError(f"{file} holds no LoRA: no tensor is called '..lora_A.weight' or '..lora_down.weight'")
    for name in alphas.keys() - found.keys():
        raise ValueError(f"{file}: there is an alpha of {name!r}, and no factors; copy the file again")
    return found, alphas


def _plain(layer: str) -> str:
    """A layer without a prefix, under today's name."""
    layer = _PREFIX.sub("", layer, count=1).replace(".processor.", ".")
    return re.sub(r"\.to_out$", ".to_out.0", layer)


def _unknown(key: str, tensor: Tensor) -> str:
    kind = next((kind for mark, kind in _OTHER_KINDS.items() if mark in key), None)
    if kind:
        return f"{key!r} belongs to {kind}, which is not supported; train or convert it to a LoRA of two factors"
    if _TEXT.search(key):
        return (
            f"{key!r} adapts a text encoder, which is no part of this model; leave it out with "
            "skip='^(text_encoder|lora_te)', and adapt the encoder where the embeddings are computed"
        )
    return (
        f"{key!r} {tensor.shape} belongs to no layer of this model; take the LoRA of this architecture, or leave the "
        "key out with skip="
    )


def _factors(pair: Mapping[str, _Part], kernel: tuple[int, ...], file: Path) -> tuple[np.ndarray, np.ndarray]:
    """A `[.., in, r]` and B `[r, out]` of PyTorch's (r, in, ..) and (out, r, ..), float32."""
    down, up = pair["down"].tensor, pair["up"].tensor
    rank = down.shape[0] if down.shape else 0
    wanted = {"down": (rank, kernel[-2], *kernel[:-2]), "up": (kernel[-1], rank)}
    arrays = {}
    for side, tensor in (("down", down), ("up", up)):
        # Layers of one pixel come with and without their two axes of length 1.
        squeezed = wanted[side][:2] if all(size == 1 for size in wanted[side][2:]) else wanted[side]
        given = tensor.shape[:2] if all(size == 1 for size in tensor.shape[2:]) else tensor.shape
        if given != squeezed or not rank:
            raise ValueError(
                f"{file}: {pair[side].key!r} has shape {tensor.shape}, its layer takes {wanted[side]}; take the LoRA "
                "of this architecture"
            )
        arrays[side] = tensor.read().astype(np.float32).reshape(wanted[side])
    order = (*range(2, len(kernel)), 1, 0)
    return np.ascontiguousarray(arrays["down"].transpose(order)), np.ascontiguousarray(arrays["up"].T)


class _Told(NamedTuple):
    """What peft writes of a LoRA: alpha, and by layer. root: the scale is alpha / sqrt(r) (rsLoRA)."""

    default: float | None
    patterns: Mapping[str, float]
    root: bool

    @classmethod
    def read(cls, file: Path) -> _Told:
        """From the file's header, or the adapter_config.json beside it."""
        with safe_open(file, framework="numpy") as opened:
            header = opened.metadata() or {}
        config: dict[str, Any] = {}
        if "lora_adapter_metadata" in header:
            try:
                written = json.loads(header["lora_adapter_metadata"])
                config = {key.split(".", 1)[-1]: value for key, value in written.items() if not _TEXT.search(key)}
            except (json.JSONDecodeError, AttributeError) as error:
                raise ValueError(f"{file}: its lora_adapter_metadata is no JSON object ({error})") from error
        elif (beside := file.parent / "adapter_config.json").is_file():
            config = read_json(beside, "LoRA configuration")
        alpha, patterns = config.get("lora_alpha"), config.get("alpha_pattern") or {}
        if not isinstance(patterns, dict) or not all(
            isinstance(value, (int, float)) for value in [alpha or 0, *patterns.values()]
        ):
            raise ValueError(f"{file}: lora_alpha and alpha_pattern must be numbers, got {alpha!r} and {patterns!r}")
        if config.get("use_dora"):
            raise ValueError(f"{file} is a DoRA (use_dora), which is not supported; train it without")
        return cls(alpha, patterns, bool(config.get("use_rslora")))

    def alpha(self, name: str, rank: int) -> float:
        """Of one kernel."""
        layer = name.removesuffix("/kernel").replace("/", ".")
        own = next((value for key, value in self.patterns.items() if re.match(rf"(.*\.)?({key})$", layer)), None)
        return float(rank if own is None and self.default is None else self.default if own is None else own)  # type: ignore[arg-type]
