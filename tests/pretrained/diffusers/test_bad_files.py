"""One clear line for every broken checkpoint, that names the file or the key and what to do."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from pcm_jax.pretrained import diffusers
from tests.pretrained.diffusers import folders
from tests.reference import random_models as cases

WEIGHTS = folders.checkpoint(cases.CASES["kl"])
"""The autoencoder is the quickest to describe."""


def refused(folder, message, **options):
    with pytest.raises(ValueError, match=message) as error:
        diffusers.load_autoencoder(folder, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "AutoencoderTiny"}, "class 'AutoencoderTiny' is not supported; supported: UNet2DModel"),
        ({"down_block_types": ["KDownBlock2D"] * 2}, "down_block_types: block 'KDownBlock2D' is not supported; "),
        ({"up_block_types": ["UpDecoderBlock2D"]}, "up_block_types names 1 blocks and block_out_channels 2 levels"),
        ({"up_block_types": None}, "up_block_types = None must be a list of str"),
        ({"block_out_channels": ["8", "16"]}, r"block_out_channels = \('8', '16'\) must be a list of int"),
        ({"act_fn": "elu"}, "act_fn = 'elu' is not supported; supported: silu"),
        ({"latents_mean": [0.0]}, r"latents_mean = \[0.0\] is not supported, only None is"),
        ({"sliced": True}, "AutoencoderKL has no key 'sliced' here"),
        ({"norm_num_groups": 5}, "describes no network that can be built: .*groups"),
    ],
)
def test_configurations(tmp_path, changes, message):
    folder = folders.write(tmp_path, "kl", WEIGHTS, **changes)
    refused(folder, rf"config\.json:? .*{message}" if "describes" not in message else message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"addition_embed_type": "image"}, "addition_embed_type = 'image' is not supported; supported: text_time"),
        ({"addition_embed_type": "text_time"}, "'text_time' needs addition_time_embed_dim; add it"),
        ({"num_class_embeds": "10"}, "num_class_embeds = '10' must be a whole number"),
        ({"class_embed_type": "text"}, "class_embed_type = 'text' is not supported; supported: timestep"),
        (
            {"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"},
            "mid_block_type = 'UNetMidBlock2DSimpleCrossAttn' is not",
        ),
        ({"transformer_layers_per_block": [1, 1, 1]}, "transformer_layers_per_block = .* give one value"),
        ({"layers_per_block": [[1, 2], 1]}, "layers_per_block = .* give one value"),
        ({"transformer_layers_per_block": [[1], 1]}, "by layer needs reverse_transformer_layers_per_block too; add"),
        (
            {"transformer_layers_per_block": [[1, 2], 1], "reverse_transformer_layers_per_block": [1, [1, 1]]},
            "must have 1 numbers in level 0, one for each layer",
        ),
        (
            {"transformer_layers_per_block": [[1], 1], "reverse_transformer_layers_per_block": [[1], [1, 1]]},
            "must have 2 numbers in level 0, one for each layer",
        ),
        ({"cross_attention_dim": [8, 12]}, r"cross_attention_dim = \(8, 12\) is not supported"),
    ],
)
def test_configurations_of_stable_diffusion(tmp_path, changes, message):
    (tmp_path / "config.json").write_text(json.dumps(cases.CASES["stable-diffusion"] | changes))
    with pytest.raises(ValueError, match=message):
        diffusers.load_denoiser(tmp_path)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("dit", {"norm_type": "layer_norm"}, "norm_type = 'layer_norm' is not supported, only 'ada_norm_zero' is"),
        ("dit", {"cross_attention_dim": 12}, "cross_attention_dim = 12 is not supported, only None is"),
        ("dit", {"out_channels": 6}, "out_channels = 6 is not supported; a prediction has the 4 of in_channels"),
        ("dit", {"attention_head_dim": 9}, "a width that is a multiple of 4 .* got 18, 8 and 2"),
        ("dit", {"patch_size": 3}, "got 16, 8 and 3"),
        ("dit", {"num_layers": 2.5}, "num_layers = 2.5 must be a whole number"),
        ("dit", {"num_layers": 0}, "num_layers = 0 must be at least 1"),
        ("sd3", {"out_channels": 8}, "out_channels = 8 is not supported"),
        ("sd3", {"qk_norm": "layer_norm"}, "qk_norm = 'layer_norm' is not supported; supported: rms_norm"),
        ("sd3", {"dual_attention_layers": [0, "1"]}, "dual_attention_layers = .* must be a list of int"),
        ("sd3", {"caption_projection_dim": 12}, "caption_projection_dim = 12 must be the width 16"),
        ("sd3", {"force_zeros_for_pooled_projection": True}, "SD3Transformer2DModel has no key 'force_zeros"),
    ],
)
def test_configurations_of_transformers(tmp_path, name, changes, message):
    (tmp_path / "config.json").write_text(json.dumps(cases.CASES[name] | changes))
    with pytest.raises(ValueError, match=rf"config\.json: .*{message}"):
        diffusers.load_denoiser(tmp_path)


def test_a_model_of_another_kind(tmp_path):
    folder = folders.write(tmp_path, "kl", WEIGHTS)
    with pytest.raises(ValueError, match=r"AutoencoderKL is none of UNet2DModel, .*; load it with"):
        diffusers.load_denoiser(folder)


def test_tensors_that_do_not_fit_the_configuration(tmp_path):
    key = "decoder.mid_block.resnets.0.conv1.weight"
    without = {name: value for name, value in WEIGHTS.items() if name != key}
    refused(
        folders.write(tmp_path, "kl", without), rf"the tensor '{key}' \(16, 16, 3, 3\) is missing\. Take the config"
    )
    renamed = without | {"decoder.other": WEIGHTS[key]}
    refused(folders.write(tmp_path, "kl", renamed), "is missing; it has 'decoder.other', which nothing expects")
    more = WEIGHTS | {"loss.weight": np.ones(3, np.float32)}
    refused(folders.write(tmp_path, "kl", more), r"the tensor 'loss.weight' \(3,\) is left over, nothing expects it")
    refused(
        folders.write(tmp_path, "kl", WEIGHTS, block_out_channels=[8, 32]),
        r"diffusion_pytorch_model.safetensors: '.*' has shape \(.*\), the configuration says",
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(tmp_path, value):
    key = "encoder.conv_in.bias"
    broken = WEIGHTS | {key: np.full_like(WEIGHTS[key], value)}
    refused(folders.write(tmp_path, "kl", broken), f"tensor '{key}' has values that are NaN or infinite as float32")


def test_a_value_that_the_dtype_cannot_hold(tmp_path):
    key = "encoder.conv_in.bias"
    large = WEIGHTS | {key: np.full_like(WEIGHTS[key], 1e6)}
    folder = folders.write(tmp_path, "kl", large)
    refused(folder, "infinite as float16; .* dtype=jnp.float32", dtype=jnp.float16)
    assert diffusers.load_autoencoder(folder, dtype=jnp.bfloat16).factor == 2


def test_shards(tmp_path):
    folder = folders.shard(folders.write(tmp_path, "kl", WEIGHTS))
    shard = folder / "diffusion_pytorch_model-00002-of-00002.safetensors"
    content = shard.read_bytes()
    shard.write_bytes(content[:-10])
    refused(folder, r"00002-of-00002.safetensors is truncated or no safetensors file .* copy it again")
    save_file({"x": np.ones(2, np.float32)}, shard)
    refused(folder, "00002-of-00002.safetensors and .*index.json disagree on the tensor")
    shard.unlink()
    refused(folder, "the shard diffusion_pytorch_model-00002-of-00002.safetensors that .*index.json names is missing")
    index = folder / f"{folders.FILE}.index.json"
    index.write_text('{"weight_map": {"a": "../elsewhere.safetensors"}}')
    refused(folder, "the shard ../elsewhere.safetensors that .* names is missing")
    index.write_text("{}")
    refused(folder, "index.json has no 'weight_map'")


def test_pickles_are_refused(tmp_path):
    folder = folders.write(tmp_path, "kl", WEIGHTS)
    (folder / folders.FILE).rename(folder / "diffusion_pytorch_model.bin")
    refused(
        folder, r"only diffusion_pytorch_model.bin. A .bin file is a pickle, which can run any program .*convert it"
    )
    refused(folder / "diffusion_pytorch_model.bin", "is no safetensors file. A .bin file is a pickle")


def test_missing_files(tmp_path):
    refused(tmp_path, r"there is no model configuration at .*config\.json; pass the folder .*diffusers\.snapshot")
    refused(tmp_path / "CompVis/ldm", "there is no model configuration")
    folder = folders.write(tmp_path / "kl", "kl", WEIGHTS)
    (folder / folders.FILE).unlink()
    refused(folder, "holds no safetensors file; copy")
    save_file({"a": np.ones(2, np.int8)}, folder / folders.FILE)
    refused(folder, "tensor 'a' is I8; save the model in F64, F32, F16, BF16")
    (folder / "config.json").write_text("[1]")
    refused(folder, "holds a JSON list instead of an object")
    with pytest.raises(ValueError, match=r"there is no pipeline at .*model_index\.json"):
        diffusers.load_pipeline(folder)
