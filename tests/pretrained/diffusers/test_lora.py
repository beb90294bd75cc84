"""LoRA files of users: PyTorch's outputs in every style of names, and what is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from experiments.parity import imports as import_study
from pcm_jax import lora
from pcm_jax.networks import factored
from pcm_jax.pretrained import diffusers
from pcm_jax.pretrained.diffusers.lora_names import layer_names
from tests.pretrained.diffusers import folders
from tests.reference import random_loras as loras
from tests.reference import random_models as cases


def write(folder, name, arrays=None, header=None):
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / loras.FILE
    save_file(loras.arrays(name) if arrays is None else arrays, file, loras.header(name) if header is None else header)
    return file


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder, loaded = tmp_path_factory.mktemp("models"), {}

    def model(name):
        if name not in loaded:
            loaded[name] = diffusers.load_denoiser(folders.write(folder / name, name))
        return loaded[name]

    return model


@pytest.mark.parametrize("name", loras.CASES)
def test_outputs_are_pytorchs(tmp_path, name):
    model = loras.CASES[name]["model"]
    found = import_study.adapted(folders.write(tmp_path, model), name)
    expected = folders.ARRAYS[f"{name}/out"]
    assert import_study.relative_error(found, expected) < 1e-4
    assert import_study.relative_error(folders.ARRAYS[f"{model}/8x8/out"], expected) > 0.1, "it changes the output"


def test_ranks_and_alphas_differ_by_layer(tmp_path, models):
    model = models("stable-diffusion")
    found = diffusers.load_lora(write(tmp_path, "lora-peft"), model)
    ranks = {name: pair["down"].shape[-1] for name, pair in found.factors.items()}
    assert sorted(ranks.values()) == [1, 2, 2, 2, 3] and found.scale == 1.0
    key = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_k.lora_B.weight"
    name = "mid_block/attentions.0/transformer_blocks.0/attn1/to_k/kernel"
    np.testing.assert_allclose(found.factors[name]["up"], 5 / 2 * loras.arrays("lora-peft")[key].T, rtol=1e-6)
    half = diffusers.load_denoiser(folders.write(tmp_path / "half", "stable-diffusion"), dtype=jnp.bfloat16)
    pairs = diffusers.load_lora(tmp_path, half).factors.values()
    assert {leaf.dtype for pair in pairs for leaf in pair.values()} == {jnp.dtype(jnp.bfloat16)}


def test_alpha_from_the_file_beside_it(tmp_path, models):
    model, arrays = models("dit"), loras.arrays("lora-dit")
    file = write(tmp_path, "lora-dit")
    plain = diffusers.load_lora(file, model)
    file.rename(tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 6, "r": 2}))
    found = diffusers.load_lora(tmp_path, model)
    for name, pair in plain.factors.items():
        np.testing.assert_allclose(found.factors[name]["up"], 3 * pair["up"], rtol=1e-6)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 6, "r": 2, "use_rslora": True}))
    found = diffusers.load_lora(tmp_path, model)
    name = "transformer_blocks.0/attn1/to_v/kernel"
    np.testing.assert_allclose(found.factors[name]["up"], 6 / 2**0.5 * plain.factors[name]["up"], rtol=1e-6)
    assert len(arrays) == 2 * len(plain.factors)


def test_a_base_under_a_pcm_adapter(tmp_path, models):
    model = models("dit")
    style = diffusers.load_lora(write(tmp_path, "lora-dit"), model)
    base = lora.merge(model.params, style)
    given = cases.inputs("dit", (8, 8))
    x, t, label = (jnp.asarray(given[key]) for key in ("x", "t", "label"))
    adapter = factored(model.model_fn, lora.init(base, 2, jax.random.key(0), select="attn1"))
    found = jax.jit(adapter.model_fn)(base, adapter.factors, x, t, label, jnp.ones(2))
    np.testing.assert_allclose(found, folders.ARRAYS["lora-dit/out"], atol=1e-4)
    # A user's file is a LoRA like any other: with lambda for each row too.
    beside = factored(model.model_fn, style)
    found = jax.jit(beside.model_fn)(model.params, style, x, t, label, jnp.asarray([1.0, 0.0]))
    np.testing.assert_allclose(found[0], folders.ARRAYS["lora-dit/out"][0], atol=1e-4)
    np.testing.assert_allclose(found[1], folders.ARRAYS["dit/8x8/out"][1], atol=1e-4)


@pytest.mark.fast
@pytest.mark.parametrize("name", ["stable-diffusion", "sdxl", "dit", "sd3.5"])
def test_every_layer_has_one_name_in_each_style(models, name):
    model = models(name)
    names = layer_names(diffusers.key_map(model.params), model.model_fn.module)
    kernels = {key for key in diffusers.key_map(model.params) if key.endswith("kernel")}
    assert set(names.values()) == kernels
    styles = 1 + 2 * (2 if "block_out_channels" in cases.CASES[name] else 1)
    assert len(names) == styles * len(kernels), "two layers have one name"


def refused(tmp_path, models, match, change, name="lora-kohya", header=None, **options):
    arrays = loras.arrays(name)
    change(arrays)
    with pytest.raises(ValueError, match=match) as error:
        diffusers.load_lora(write(tmp_path, name, arrays, header), models(loras.CASES[name]["model"]), **options)
    assert "\n" not in str(error.value)


LAYER = "lora_unet_down_blocks_0_resnets_0_conv1"


def put(**arrays):
    return lambda old: old.update({key.replace("__", "."): value for key, value in arrays.items()})


ZERO = np.zeros((2, 8), np.float32)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (put(lora_unet_other__lora_down__weight=ZERO), r"'lora_unet_other.lora_down.weight' \(2, 8\) belongs to no l"),
        (put(lora_te_text_model__lora_down__weight=ZERO), r"adapts a text encoder, .* skip='\^\(text_encoder\|lora_te"),
        (put(**{f"{LAYER}__hada_w1_a": ZERO}), "belongs to LoHa, which is not supported"),
        (put(**{f"{LAYER}__lora_mid__weight": ZERO}), "belongs to a LoRA of three factors"),
        (put(**{f"{LAYER}__dora_scale": ZERO}), "belongs to DoRA"),
        (put(**{f"{LAYER}__alpha": ZERO}), r"conv1.alpha' has shape \(2, 8\), alpha is one number"),
        (put(**{f"{LAYER}__lora_down__weight": ZERO}), r"conv1.lora_down.weight' has shape \(2, 8\), its layer takes"),
        (put(**{f"{LAYER}__lora_up__weight": np.zeros((8, 3, 1, 1), np.float32)}), r"has shape \(8, 3, 1, 1\)"),
        (put(**{f"{LAYER}__lora_up__weight": np.full((8, 2, 1, 1), np.nan, np.float32)}), "NaN or infinite"),
        (put(**{f"{LAYER}__alpha": np.full((), np.inf, np.float32)}), "NaN or infinite"),
        (put(**{f"{LAYER}__lora_A__weight": np.zeros((2, 8, 3, 3), np.float32)}), "are the same factor; keep one"),
        (lambda old: old.pop(f"{LAYER}.lora_up.weight"), r"conv1.lora_down.weight' has no other half"),
        (lambda old: [old.pop(f"{LAYER}.lora_{side}.weight") for side in ("up", "down")], "there is an alpha of"),
        (lambda old: old.clear(), "holds no LoRA"),
    ],
)
def test_files_that_do_not_fit(tmp_path, models, change, match):
    refused(tmp_path, models, match, change)


def test_keys_that_the_user_leaves_out(tmp_path, models):
    arrays = loras.arrays("lora-kohya") | {"lora_te_text_model.lora_down.weight": ZERO}
    found = diffusers.load_lora(write(tmp_path, "", arrays, {}), models("stable-diffusion"), skip="^lora_te")
    assert len(found.factors) == len(loras.CASES["lora-kohya"]["layers"])


def test_headers_that_do_not_fit(tmp_path, models):
    def nothing(old):
        return None

    def told(**config):
        return {"lora_adapter_metadata": json.dumps(config)}

    refused(tmp_path, models, "is a DoRA", nothing, "lora-peft", told(**{"unet.use_dora": True}))
    refused(tmp_path, models, "must be numbers, got 'a'", nothing, "lora-peft", told(**{"unet.lora_alpha": "a"}))
    refused(tmp_path, models, "is no JSON object", nothing, "lora-peft", {"lora_adapter_metadata": "[1"})


def test_files_that_are_no_lora(tmp_path, models):
    model = models("dit")
    with pytest.raises(ValueError, match="there is no LoRA file at"):
        diffusers.load_lora(tmp_path / "style.safetensors", model)
    with pytest.raises(ValueError, match=r"holds no pytorch_lora_weights.safetensors or adapter_model.safetensors"):
        diffusers.load_lora(tmp_path, model)
    (tmp_path / "style.pt").write_bytes(b"pickle")
    with pytest.raises(ValueError, match=r"style.pt is no safetensors file. A .pt file is a pickle"):
        diffusers.load_lora(tmp_path / "style.pt", model)
    file = write(tmp_path, "lora-dit")
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ValueError, match="is truncated or no safetensors file"):
        diffusers.load_lora(tmp_path, model)
    with pytest.raises(ValueError, match="belongs to no layer of this model"):
        diffusers.load_lora(write(tmp_path, "lora-sd3"), model)
