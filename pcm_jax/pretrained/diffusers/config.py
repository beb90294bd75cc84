"""`config.json` of a diffusers model: the Linen module that it describes, or one line on what is not supported."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from jax.typing import DTypeLike

from pcm_jax import files
from pcm_jax.networks import diffusers as networks
from pcm_jax.networks.diffusers.blocks import DECODER, DOWN, ENCODER, UP, Kind, kind_of
from pcm_jax.networks.diffusers.layers import ACTIVATIONS


@dataclasses.dataclass(frozen=True)
class Spec:
    """How one class of diffusers is read.

    module: the Linen class, its fields are the keys that matter. blocks: the known ones of each list of blocks.
    fixed: keys that are supported with one value alone. ignored: keys without an effect on what the network computes.
    """

    module: Any
    blocks: dict[str, dict[str, Kind]]
    fixed: dict[str, Any] = dataclasses.field(default_factory=dict)
    ignored: frozenset[str] = frozenset()


_WITHOUT_TEXT = [{name: kind for name, kind in known.items() if kind.attend != "text"} for known in (DOWN, UP)]
_CODER = {"down_block_types": ENCODER, "up_block_types": DECODER}
_DIT = Spec(
    networks.DiTTransformer2DModel,
    {},
    fixed={
        "norm_type": "ada_norm_zero",
        "norm_elementwise_affine": False,
        "activation_fn": "gelu-approximate",
        "cross_attention_dim": None,
        "double_self_attention": False,
        "only_cross_attention": False,
        "num_vector_embeds": None,
        "caption_channels": None,
        "attention_type": "default",
        "interpolation_scale": None,
        "use_additional_conditions": None,
    },
    ignored=frozenset({"dropout", "norm_num_groups", "upcast_attention", "use_linear_projection"}),
)
SPECS: dict[str, Spec] = {
    "UNet2DModel": Spec(
        networks.UNet2DModel,
        {"down_block_types": _WITHOUT_TEXT[0], "up_block_types": _WITHOUT_TEXT[1]},
        ignored=frozenset({"sample_size", "dropout"}),
    ),
    "UNet2DConditionModel": Spec(
        networks.UNet2DConditionModel,
        {"down_block_types": DOWN, "up_block_types": UP},
        fixed={
            "dual_cross_attention": False,
            "attention_type": "default",
            "time_cond_proj_dim": None,
            "num_attention_heads": None,
        },
        # The last three belong to blocks and embeddings that are not supported.
        ignored=frozenset({"sample_size", "dropout", "upcast_attention", "cross_attention_norm"})
        | {"mid_block_only_cross_attention", "addition_embed_type_num_heads"},
    ),
    "DiTTransformer2DModel": _DIT,
    # How the folders of DiT call it: diffusers gave it a class of its own later.
    "Transformer2DModel": _DIT,
    "SD3Transformer2DModel": Spec(networks.SD3Transformer2DModel, {}),
    "AutoencoderKL": Spec(
        networks.AutoencoderKL,
        _CODER,
        fixed={"latents_mean": None, "latents_std": None},
        ignored=frozenset({"sample_size", "force_upcast"}),
    ),
    "VQModel": Spec(
        networks.VQModel,
        _CODER,
        fixed={"norm_type": "group"},
        ignored=frozenset({"sample_size", "force_upcast", "lookup_from_codebook"}),
    ),
}
_ACTIVATION_KEYS = ("act_fn", "time_embedding_act_fn", "timestep_post_act")
_DEPTHS = ("transformer_layers_per_block", "reverse_transformer_layers_per_block")
DENOISERS = tuple(name for name in SPECS if name not in ("AutoencoderKL", "VQModel"))
AUTOENCODERS = ("AutoencoderKL", "VQModel")


def read_json(path: Path, what: str) -> dict[str, Any]:
    """The JSON object in `path`; ValueError where there is none."""
    if not path.is_file():
        raise ValueError(
            f"there is no {what} at {path}; pass the folder that save_pretrained wrote, or "
            "download a name of the hub first with pretrained.diffusers.snapshot(name)"
        )
    return files.read_json(path)


def build(config: Mapping[str, Any], where: str, dtype: DTypeLike) -> Any:
    """The Linen module that `config` describes, computing in `dtype`.

    Args:
        config: the content of config.json.
        where: the file's name, for errors.
        dtype: what the layers compute in.

    Raises:
        ValueError: a class, a block, a key or a value that is not supported.
    """
    name = config.get("_class_name")
    if name not in SPECS:
        raise ValueError(f"{where}: class {name!r} is not supported; supported: {', '.join(SPECS)}")
    spec = SPECS[name]
    hints = get_type_hints(spec.module)
    own = {field.name for field in dataclasses.fields(spec.module)} - {"parent", "name", "dtype"}
    fields: dict[str, Any] = {}
    for key, value in config.items():
        if key.startswith("_") or key in spec.ignored:
            continue
        if key in spec.fixed:
            if value != spec.fixed[key]:
                raise ValueError(f"{where}: {key} = {value!r} is not supported, only {spec.fixed[key]!r} is")
        elif key not in own:
            raise ValueError(
                f"{where}: {name} has no key {key!r} here, and what it changes is unknown; if it changes nothing, "
                "delete it from the file"
            )
        else:
            fields[key] = _tuples(value)
            _check_choice(key, fields[key], hints[key], where)
    module = spec.module(**fields, dtype=dtype)
    if spec.blocks:
        _check_levels(module, spec, where)
    else:
        _check_patches(module, where)
    return module


def _tuples(value: Any) -> Any:
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list) else value


def _check_choice(key: str, value: Any, hint: Any, where: str) -> None:
    """Keys with few values list them in their type; activations are looked up."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    choices = [choice for option in options if get_origin(option) is Literal for choice in get_args(option)]
    if key in _ACTIVATION_KEYS and value is not None:
        choices = list(ACTIVATIONS)
    elif type(None) in options:
        choices += [None] if choices else []
    if int in options and not (isinstance(value, int) or (value is None and type(None) in options)):
        raise ValueError(f"{where}: {key} = {value!r} must be a whole number")
    if choices and value not in choices:
        raise ValueError(f"{where}: {key} = {value!r} is not supported; supported: {', '.join(map(str, choices))}")


def _check_levels(module: Any, spec: Spec, where: str) -> None:
    for key, kind in {**dict.fromkeys(spec.blocks, str), "block_out_channels": int}.items():
        if not isinstance(value := getattr(module, key), tuple) or not all(isinstance(entry, kind) for entry in value):
            raise ValueError(f"{where}: {key} = {value!r} must be a list of {kind.__name__}, one for each level")
    count = len(module.block_out_channels)
    for key, known in spec.blocks.items():
        names = getattr(module, key)
        if len(names) != count:
            raise ValueError(
                f"{where}: {key} names {len(names)} blocks and block_out_channels {count} levels; both must be as many"
            )
        for name in names:
            try:
                kind_of(name, known)
            except ValueError as error:
                raise ValueError(f"{where}: {key}: {error}") from error
    for key in ("layers_per_block", "attention_head_dim", "only_cross_attention", *_DEPTHS):
        value = getattr(module, key, None)
        nested = key not in _DEPTHS and isinstance(value, tuple) and any(isinstance(entry, tuple) for entry in value)
        if isinstance(value, tuple) and (len(value) != count or nested):
            raise ValueError(f"{where}: {key} = {value!r} is not supported; give one value, or one for each level")
    _check_depths(module, where)
    if isinstance(width := getattr(module, "cross_attention_dim", None), tuple) and len(set(width)) > 1:
        raise ValueError(f"{where}: cross_attention_dim = {width!r} is not supported; all levels must see one width")
    if getattr(module, "time_embedding_type", "") == "learned" and not module.num_train_timesteps:
        raise ValueError(f"{where}: time_embedding_type = 'learned' needs num_train_timesteps; add it")
    if getattr(module, "addition_embed_type", None) == "text_time":
        for key in ("addition_time_embed_dim", "projection_class_embeddings_input_dim"):
            if not getattr(module, key):
                raise ValueError(f"{where}: addition_embed_type = 'text_time' needs {key}; add it")


def _check_depths(module: Any, where: str) -> None:
    """Transformer blocks by layer, on the way down and up (SSD-1B), which have other numbers of layers."""
    down, up = (getattr(module, key, None) for key in _DEPTHS)
    if up is None and isinstance(down, tuple) and any(isinstance(entry, tuple) for entry in down):
        raise ValueError(f"{where}: {_DEPTHS[0]} = {down!r} by layer needs {_DEPTHS[1]} too; add it")
    for key, value, more in ((_DEPTHS[0], down, 0), (_DEPTHS[1], up, 1)):
        for index, entry in enumerate(value if isinstance(value, tuple) else ()):
            layers = module.layers_per_block
            number = layers if not isinstance(layers, tuple) else layers[index] if not more else layers[-1 - index]
            if isinstance(entry, tuple) and len(entry) != number + more:
                raise ValueError(
                    f"{where}: {key} = {value!r} must have {number + more} numbers in level {index}, one for each layer"
                )


def _check_patches(module: Any, where: str) -> None:
    """Of a transformer over patches."""
    for key in ("patch_size", "num_layers", "num_attention_heads", "attention_head_dim", "in_channels", "sample_size"):
        if getattr(module, key) < 1:
            raise ValueError(f"{where}: {key} = {getattr(module, key)} must be at least 1")
    width = module.num_attention_heads * module.attention_head_dim
    if width % 4 or module.sample_size % module.patch_size:
        raise ValueError(
            f"{where}: positions need a width that is a multiple of 4 and a sample_size that is one of patch_size, got "
            f"{width}, {module.sample_size} and {module.patch_size}"
        )
    count, own = module.out_channels or module.in_channels, module.in_channels
    learned = isinstance(module, networks.DiTTransformer2DModel) and count == 2 * own
    if count != own and not learned:
        raise ValueError(
            f"{where}: out_channels = {count} is not supported; a prediction has the {own} of in_channels, DiT's may "
            "have a variance beside it"
        )
    layers = getattr(module, "dual_attention_layers", ())
    if not isinstance(layers, tuple) or not all(isinstance(index, int) for index in layers):
        raise ValueError(f"{where}: dual_attention_layers = {layers!r} must be a list of int")
    if (joined := getattr(module, "caption_projection_dim", width)) != width:
        raise ValueError(
            f"{where}: caption_projection_dim = {joined} must be the width {width}, heads times their size: text and "
            "pixels are joined"
        )
